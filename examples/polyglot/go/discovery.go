package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
)

// service answers $SRV.PING, INFO and STATS. micro.AddService would do that, but takes a request for done, without
// error, when its callback returns: here a callback only hands over.
type service struct {
	micro.ServiceIdentity
	mutex     sync.Mutex
	info      micro.Info
	stats     micro.Stats
	endpoints map[string]*micro.EndpointStats // by subject
}

func newService(name, version string) *service {
	who := micro.ServiceIdentity{Name: name, ID: nuid.Next(), Version: version, Metadata: map[string]string{}}
	return &service{
		ServiceIdentity: who,
		info:            micro.Info{ServiceIdentity: who, Type: micro.InfoResponseType},
		stats:           micro.Stats{ServiceIdentity: who, Type: micro.StatsResponseType, Started: time.Now().UTC()},
		endpoints:       map[string]*micro.EndpointStats{},
	}
}

func (s *service) add(prefix, kind string) (subject string) {
	name, subject := strings.ReplaceAll(kind, ":", "-"), prefix+"."+kind
	metadata := map[string]string{"ajc.type": kind, "ajc.concurrency": strconv.Itoa(concurrency), "ajc.protocol": "1"}
	s.endpoints[subject] = &micro.EndpointStats{Name: name, Subject: subject, QueueGroup: "ajc"}
	s.stats.Endpoints = append(s.stats.Endpoints, s.endpoints[subject])
	s.info.Endpoints = append(s.info.Endpoints, micro.EndpointInfo{
		Name: name, Subject: subject, QueueGroup: "ajc", Metadata: metadata})
	return subject
}

func (s *service) count(subject string, began time.Time, said Say) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one := s.endpoints[subject]
	one.NumRequests++
	one.ProcessingTime += time.Since(began)
	one.AverageProcessingTime = one.ProcessingTime / time.Duration(one.NumRequests)
	if said.Header != "" && said.Header != "AJ-Busy" {
		one.NumErrors, one.LastError = one.NumErrors+1, said.Text
	}
}

func (s *service) discover(m *nats.Msg) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	asked := strings.Split(m.Subject, ".")[1:] // PING, INFO or STATS, then a name, then an id; or fewer
	if whom := asked[1:]; len(whom) > 2 || !slices.Equal(whom, []string{s.Name, s.ID}[:len(whom)]) {
		return
	}
	ping := micro.Ping{ServiceIdentity: s.ServiceIdentity, Type: micro.PingResponseType}
	if answer := map[string]any{"PING": ping, "INFO": s.info, "STATS": s.stats}[asked[0]]; answer != nil {
		body, _ := json.Marshal(answer)
		_ = m.Respond(body)
	}
}
