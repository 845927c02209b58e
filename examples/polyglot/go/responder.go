package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/samber/lo"
	"golang.org/x/sync/semaphore"
)

const concurrency = 50 // attempts at a time; a further one is answered busy

var places = semaphore.NewWeighted(concurrency)

// Handler does the work of one type; what it returns is the result, or the error that is answered.
type Handler func(*Attempt) ([]byte, error)

// Say is an error that says under which header it is answered; others are AJ-Error.
type Say struct{ Header, Text, RetryAfterMs string }

func (s Say) Error() string { return s.Text }

// Attempt is one run of a task. It is a context, which ends at the deadline.
type Attempt struct {
	context.Context `json:"-"`
	Header          map[string]string `json:"-"` // by name in small letters; "" for a blank one, as for none
	Payload         []byte            // encoding/json decodes the base64
	End             time.Time         `json:"deadline"` // the task's own; far away for none
	request         *nats.Msg
	mutex           sync.Mutex         // for beat and reply: no beat follows the reply
	over            context.CancelFunc // by the first reply, which is the only one
	left            time.Duration
	deadline, next  *time.Timer
}

// Serve answers $EXEC_PREFIX.$AJC_FAMILY:<name> for each handler until SIGTERM, then finishes what runs.
func Serve(handlers ...map[string]Handler) {
	nc := lo.Must(nats.Connect(os.Getenv("NATS_URL"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { log.Print(err) })))
	ending, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	prefix := cmp.Or(os.Getenv("EXEC_PREFIX"), "ajc.exec") + "." + cmp.Or(os.Getenv("AJC_FAMILY"), "conform") + ":"
	for name, handler := range lo.Assign(handlers...) {
		sub := lo.Must(nc.QueueSubscribe(prefix+name, "ajc", func(m *nats.Msg) { begin(m, handler) }))
		context.AfterFunc(ending, func() { _ = sub.Drain() }) // leaves the queue group
	}
	closed := nc.StatusChanged(nats.CLOSED)
	<-ending.Done()
	_ = places.Acquire(context.Background(), concurrency) // what runs ends, and nothing can begin
	_ = nc.Drain()                                        // what has arrived is answered, and flushed
	<-closed
}

// begin is called for one request of a type at a time, so it only hands over.
func begin(m *nats.Msg, handler Handler) {
	a := &Attempt{request: m, Header: map[string]string{}, End: time.Now().AddDate(1, 0, 0)}
	a.Context, a.over = context.WithCancel(context.Background())
	for name, values := range m.Header {
		name = strings.ToLower(name)
		a.Header[name] = cmp.Or(a.Header[name], strings.TrimSpace(cmp.Or(values...)))
	}
	if version := cmp.Or(a.Header["aj-protocol"], "1"); version != "1" {
		a.reply(nil, Say{"AJ-Busy", "AJ-Protocol " + version + " is not known here", ""})
	} else if err := json.Unmarshal(m.Data, a); err != nil {
		a.reply(nil, err)
	} else if !places.TryAcquire(1) {
		a.reply(nil, Say{"AJ-Busy", fmt.Sprintf("%d attempts are running", concurrency), ""})
	} else {
		go a.run(handler)
	}
}

// run replies with what comes of the handler, or at the deadline, and beats until then.
func (a *Attempt) run(handler Handler) {
	given, _ := time.ParseDuration(a.Header["aj-timeout-ms"] + "ms")
	// a Go worker gives a time of day, and nothing else; the clocks may disagree
	at, _ := time.Parse(time.RFC3339, a.Header["aj-handler-deadline"])
	// a tenth of a second is for the reply's way
	a.left = cmp.Or(given, time.Until(cmp.Or(at, time.Now().Add(30*time.Second)))) - time.Second/10
	a.deadline = time.AfterFunc(a.left, func() { a.reply(nil, errors.New("not done by the deadline")) })
	a.next = time.AfterFunc(time.Hour, func() { a.beat(nil) })
	a.beat(nil) // and it sets the time of the next; where none are wanted it does nothing
	defer func() { a.deadline.Stop(); a.next.Stop(); places.Release(1) }()
	defer func() { a.reply(nil, fmt.Errorf("%v", recover())) }() // of a panic; else there is a reply already
	a.reply(handler(a))
}

// Progress tells how far it is; it is a beat, too.
func (a *Attempt) Progress(percent int, message string) {
	a.beat(lo.Must(json.Marshal(map[string]any{"percent": percent, "message": message})))
}

func (a *Attempt) beat(body []byte) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	beat := nats.Msg{Sub: a.request.Sub, Reply: a.Header["aj-heartbeat-subject"]} // goes the reply's way
	if a.Err() == nil && beat.Respond(body) == nil {
		every, _ := time.ParseDuration(a.Header["aj-heartbeat-ms"] + "ms")
		a.next.Reset(every / 2)
		a.deadline.Reset(min(a.left, time.Until(a.End)-time.Second/10)) // from now on, within the task's own
	}
}

func (a *Attempt) reply(result []byte, err error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.Err() == nil {
		a.over()
		said := Say{Header: "AJ-Error"}
		if err == nil {
			said.Header, err = "AJ-Terminate", a.request.Respond(result) // it refuses what exceeds max_payload
		}
		if err != nil {
			errors.As(err, &said)
			text := fmt.Sprintf("%.1000s", cmp.Or(strings.TrimSpace(strings.ToValidUTF8(err.Error(), "?")), "no text"))
			// AJ-Error is what a Go worker knows; a bridge looks at the others first
			header := nats.Header{"AJ-Error": {text}, said.Header: {text}, "AJ-Retry-After-Ms": {said.RetryAfterMs}}
			_ = a.request.RespondMsg(&nats.Msg{Header: header})
		}
	}
}
