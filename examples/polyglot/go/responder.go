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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const concurrency = 50 // attempts at a time; a further one is answered busy

// Handler does the work of one type; what it returns is the result, or the error that is answered.
type Handler func(*Attempt) ([]byte, error)

// Say is an error that says under which header it is answered; others are AJ-Error.
type Say struct{ Header, Text, RetryAfterMs string }

func (s Say) Error() string { return s.Text }

// Attempt is one run of a task. It is a context, which ends at the deadline and when the task is cancelled.
type Attempt struct {
	context.Context `json:"-"`
	ID              string
	Payload         []byte    // encoding/json decodes the base64
	End             time.Time `json:"deadline"` // the task's own; far away for none
	request         *nats.Msg
	began           time.Time
	beats           chan []byte // to run, which alone publishes: no beat follows the reply
}

// Header looks a name up without case, as nats.Header does not; a blank value counts as absent.
func (a *Attempt) Header(name string) (found string) {
	for key, values := range a.request.Header {
		for _, value := range values {
			if strings.EqualFold(key, name) {
				found = cmp.Or(found, strings.TrimSpace(value))
			}
		}
	}
	return found
}

// Progress tells how far it is; it is a beat, too.
func (a *Attempt) Progress(percent int, message string) {
	body, _ := json.Marshal(map[string]any{"percent": percent, "message": message})
	select {
	case a.beats <- body:
	case <-a.Done():
	}
}

func (a *Attempt) milliseconds(name string, otherwise time.Duration) time.Duration {
	number, _ := strconv.ParseUint(a.Header(name), 10, 40)
	return cmp.Or(time.Duration(number)*time.Millisecond, otherwise)
}

type responder struct {
	*nats.Conn
	places  chan struct{} // one is taken for each attempt that runs
	service *service
}

// Serve answers <prefix>.<family>:<name> for each handler until SIGTERM, then finishes what runs.
func Serve(prefix, family string, handlers map[string]Handler) error {
	ending, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), nats.Name("polyglot-go"),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { log.Print("cannot connect: ", err) }))
	if err != nil {
		return err
	}
	r := &responder{nc, make(chan struct{}, concurrency), newService("polyglot-go", "1.0.0")}
	var subscriptions []*nats.Subscription
	for name, handler := range handlers {
		subject := r.service.add(prefix, family+":"+name)
		sub, failed := nc.QueueSubscribe(subject, "ajc", func(m *nats.Msg) { r.begin(m, handler) })
		subscriptions, err = append(subscriptions, sub), errors.Join(err, failed)
	}
	if _, failed := nc.Subscribe("$SRV.>", r.service.discover); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	<-ending.Done()
	for _, sub := range subscriptions {
		_ = sub.Drain() // leaves the queue group; what has arrived is still served
	}
	for range concurrency {
		r.places <- struct{}{} // with all places taken nothing runs, and nothing can begin
	}
	return nc.FlushTimeout(10 * time.Second)
}

// begin is called for one request of a type at a time, so it only hands over.
func (r *responder) begin(m *nats.Msg, handler Handler) {
	a := &Attempt{request: m, began: time.Now(), beats: make(chan []byte), End: time.Now().AddDate(1, 0, 0)}
	if err := json.Unmarshal(m.Data, a); err != nil {
		r.reply(a, nil, err)
	} else if version := cmp.Or(a.Header("AJ-Protocol"), "1"); version != "1" {
		r.reply(a, nil, Say{"AJ-Busy", "AJ-Protocol " + version + " is not known here", ""})
	} else {
		select {
		case r.places <- struct{}{}:
			go r.run(a, handler)
		default:
			r.reply(a, nil, Say{"AJ-Busy", fmt.Sprintf("%d attempts are running", concurrency), ""})
		}
	}
}

// run waits for the handler, the deadline or a cancel message, and beats meanwhile; then it sends the one reply.
func (r *responder) run(a *Attempt, handler Handler) {
	var stop context.CancelCauseFunc
	a.Context, stop = context.WithCancelCause(context.Background())
	left := 30 * time.Second
	if at, err := time.Parse(time.RFC3339Nano, a.Header("AJ-Handler-Deadline")); err == nil {
		left = time.Until(at) // all that a Go worker says
	}
	left = a.milliseconds("AJ-Timeout-Ms", left) // a bridge's: clocks may disagree
	left -= min(left/10, time.Second/2)          // for the reply's way
	deadline := time.AfterFunc(left, func() { stop(errors.New("not done by the deadline")) })
	cancel, _ := r.Subscribe("ajc.cancel."+a.ID, func(m *nats.Msg) {
		stop(Say{"AJ-Terminate", "cancelled: " + string(m.Data), ""})
	})
	defer func() { deadline.Stop(); stop(nil); _ = cancel.Unsubscribe(); <-r.places }()
	var result []byte
	done, failed := make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		defer func() {
			if accident := recover(); accident != nil {
				failed = fmt.Errorf("%v", accident)
			}
		}()
		result, failed = handler(a)
	}()
	subject, beat := a.Header("AJ-Heartbeat-Subject"), time.Tick(a.milliseconds("AJ-Heartbeat-Ms", time.Second)/2+1)
	for {
		var body []byte
		select {
		case <-done:
			r.reply(a, result, failed)
			return
		case <-a.Done():
			r.reply(a, nil, context.Cause(a))
			<-done // a handler that does not look at its context keeps its place
			return
		case body = <-a.beats:
		case <-beat:
		}
		if subject != "" && r.Publish(subject, body) == nil {
			deadline.Reset(min(left, time.Until(a.End)-time.Second/10)) // from now on, but not past the task's own
		}
	}
}

func (r *responder) reply(a *Attempt, result []byte, err error) {
	said, answer := Say{}, &nats.Msg{Data: result}
	if limit := r.MaxPayload(); err == nil && int64(len(result)) > limit {
		err = Say{"AJ-Terminate", fmt.Sprintf("result of %d bytes exceeds %d", len(result), limit), ""}
	}
	if err != nil {
		if !errors.As(err, &said) {
			said = Say{Header: "AJ-Error", Text: err.Error()}
		}
		text := strings.ToValidUTF8(strings.Join(strings.Fields(said.Text), " "), "?")
		text = cmp.Or(strings.ToValidUTF8(text[:min(len(text), 4096)], ""), "no text")
		answer = &nats.Msg{Header: nats.Header{said.Header: {text}, "AJ-Retry-After-Ms": {said.RetryAfterMs}}}
		if a.Header("AJ-Task-Id") == "" {
			answer.Header.Set("AJ-Error", text) // a Go worker asks, and would take AJ-Busy for a success
		}
	}
	r.service.count(a.request.Subject, a.began, said)
	_ = a.request.RespondMsg(answer)
}
