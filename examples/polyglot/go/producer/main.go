// Stores one task and queues it: producer TYPE [PAYLOAD [QUEUE [ID]]]. Again with the same ID: nothing is doubled.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

type task struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Queue    string    `json:"queue"`
	Payload  []byte    `json:"payload"` // written as base64, or null
	MaxTries int       `json:"max_tries"`
	State    string    `json:"state"`
	Created  time.Time `json:"created"`
	Tries    int       `json:"tries"`
	LastErr  string    `json:"last_err,omitempty"`
}

// store sends the same again while no answer comes: the option keeps it single. It returns the revision, or why not.
func store(js jetstream.JetStream, subject string, body []byte, once jetstream.PublishOpt) (uint64, jetstream.ErrorCode) {
	for try := 0; ; try++ {
		ack, err := js.Publish(context.Background(), subject, body, once)
		var refused jetstream.JetStreamError
		if err == nil {
			return ack.Sequence, 0
		} else if errors.As(err, &refused) && refused.APIError() != nil {
			return 0, refused.APIError().ErrorCode
		} else if try == 10 {
			log.Fatalf("%s: %v: it may be stored; run this again with the same ID", subject, err)
		}
	}
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: producer TYPE [PAYLOAD [QUEUE [ID]]]")
	}
	given := append(os.Args, "", "", "", "")
	t := task{ID: cmp.Or(given[4], nuid.Next()), Type: given[1], Queue: cmp.Or(given[3], "DEFAULT"), MaxTries: 10,
		State: "new", Created: time.Now().UTC()}
	if given[2] != "" {
		t.Payload = []byte(given[2])
	}
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	js, _ := jetstream.New(nc)
	// 1. The record, as the first of its ID.
	subject, body := "CHORIA_AJ.T."+t.ID, must(json.Marshal(t))
	revision, refused := store(js, subject, body, jetstream.WithExpectLastSequencePerSubject(0))
	if refused == 10071 || refused == 10164 { // there is one: an earlier run's, or somebody else's
		tasks := must(js.Stream(context.Background(), "CHORIA_AJ_TASKS"))
		last := must(tasks.GetLastMsgForSubject(context.Background(), subject))
		wanted := t
		err := json.Unmarshal(last.Data, &t)
		if err != nil || t.State != "new" || t.Type != wanted.Type || t.Queue != wanted.Queue {
			log.Fatal(t.ID, " exists already: ", string(last.Data))
		}
		revision = last.Sequence
	} else if refused != 0 {
		log.Fatal(subject, " was refused: ", refused)
	}
	// 2. The item, which names it.
	item := fmt.Appendf(nil, `{"kind":0,"job":"%s"}`, t.ID)
	if _, refused = store(js, "CHORIA_AJ.Q."+t.Queue+"."+t.ID, item, jetstream.WithMsgID(t.ID)); refused != 0 {
		t.State, t.LastErr = "queue_error", fmt.Sprintf("queue %s refused it: %d", t.Queue, refused) // 10077: full
		store(js, subject, must(json.Marshal(t)), jetstream.WithExpectLastSequencePerSubject(revision))
		log.Fatal(t.ID, ": ", t.LastErr)
	}
	fmt.Println(t.ID)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
