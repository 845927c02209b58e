// Stores one task and queues it: producer TYPE [PAYLOAD [QUEUE [ID]]]. Again with the same ID: nothing is doubled.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

const record = `{"id":%q,"type":%q,"queue":%q,"payload":%s,"max_tries":10,"state":"new","created":%q,"tries":0}`

// store sends the same again while it is not taken: the option keeps it single.
func store(js nats.JetStreamContext, subject, body string, once nats.PubOpt) (ack *nats.PubAck, err error) {
	for try := 0; ack == nil && try < 10; try++ {
		ack, err = js.Publish(subject, []byte(body), once)
	}
	return ack, err
}

func main() {
	// After what is given comes the rest: no payload, a queue, and an ID, as random as what follows _INBOX.
	args := append(os.Args[1:], []string{"", "", "DEFAULT", nats.NewInbox()[7:]}[min(len(os.Args)-1, 4):]...)
	kind, queue, id := args[0], args[2], args[3]
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil || kind == "" {
		log.Fatal("usage: producer TYPE [PAYLOAD [QUEUE [ID]]], with the server in NATS_URL: ", err)
	}
	js, _ := nc.JetStream()
	payload, _ := json.Marshal(append([]byte(nil), args[1]...)) // base64, or null for none
	task := fmt.Sprintf(record, id, kind, queue, payload, time.Now().UTC().Format(time.RFC3339Nano))
	// 1. The record, as the first of its ID. Else there may be one: an earlier run's, or somebody else's.
	_, err = store(js, "CHORIA_AJ.T."+id, task, nats.ExpectLastSequencePerSubject(0))
	m, _ := js.GetLastMsg("CHORIA_AJ_TASKS", "CHORIA_AJ.T."+id)
	var t map[string]any
	if m == nil || json.Unmarshal(m.Data, &t) != nil || t["state"] != "new" || t["type"] != kind || t["queue"] != queue {
		log.Fatalf("%s exists already, or was not stored: %v", id, err)
	}
	// 2. The item, which names it. Refused, most often since the queue is full, the record must say so.
	if _, err = store(js, "CHORIA_AJ.Q."+queue+"."+id, `{"kind":0,"job":"`+id+`"}`, nats.MsgId(id)); err != nil {
		t["state"], t["last_err"] = "queue_error", fmt.Sprintf("queue %s refused it: %v", queue, err)
		marked, _ := json.Marshal(t)
		_, err = store(js, "CHORIA_AJ.T."+id, string(marked), nats.ExpectLastSequencePerSubject(m.Sequence))
		log.Fatal(t["last_err"], "; told in its record: ", err == nil)
	}
	fmt.Println(id)
}
