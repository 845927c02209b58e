package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// conform holds the scripted tasks of the conformance kit.
var conform = map[string]Handler{
	"echo":      func(a *Attempt) ([]byte, error) { return a.Payload, nil },
	"fail":      func(a *Attempt) ([]byte, error) { return nil, errors.New(string(a.Payload)) },
	"crash":     func(a *Attempt) ([]byte, error) { panic(string(a.Payload)) },
	"terminate": func(a *Attempt) ([]byte, error) { return nil, Say{"AJ-Terminate", string(a.Payload), ""} },
	"busy":      func(a *Attempt) ([]byte, error) { return nil, Say{"AJ-Busy", string(a.Payload), ""} },
	"later":     func(a *Attempt) ([]byte, error) { return nil, Say{"AJ-Error", "later", string(a.Payload)} },
	"trace":     func(a *Attempt) ([]byte, error) { return []byte(a.Header("traceparent")), nil },
	"about": func(a *Attempt) ([]byte, error) {
		try, _ := strconv.Atoi(a.Header("AJ-Try"))
		limit, _ := strconv.Atoi(a.Header("AJ-Max-Tries"))
		return json.Marshal(map[string]any{"id": a.Header("AJ-Task-Id"), "type": a.Header("AJ-Task-Type"),
			"queue": a.Header("AJ-Queue"), "try": try, "max_tries": limit})
	},
	"slow": func(a *Attempt) ([]byte, error) {
		milliseconds, err := strconv.Atoi(string(a.Payload))
		select {
		case <-time.After(time.Duration(milliseconds) * time.Millisecond):
			return a.Payload, err
		case <-a.Done(): // the deadline, or cancelled: stop
			return nil, context.Cause(a)
		}
	},
	"progress": func(a *Attempt) ([]byte, error) {
		for quarter := 1; quarter <= 4; quarter++ {
			a.Progress(25*quarter, fmt.Sprintf("quarter %d of 4", quarter))
		}
		return []byte("done"), nil
	},
}
