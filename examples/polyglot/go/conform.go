package main

import (
	"fmt"
	"time"
)

// conform holds the scripted tasks of the conformance kit.
var conform = map[string]Handler{
	"echo":      func(a *Attempt) ([]byte, error) { return a.Payload, nil },
	"fail":      func(a *Attempt) ([]byte, error) { return nil, fmt.Errorf("%s", a.Payload) },
	"crash":     func(a *Attempt) ([]byte, error) { panic(string(a.Payload)) },
	"terminate": func(a *Attempt) ([]byte, error) { return nil, Say{"AJ-Terminate", string(a.Payload), ""} },
	"busy":      func(a *Attempt) ([]byte, error) { return nil, Say{"AJ-Busy", string(a.Payload), ""} },
	"later":     func(a *Attempt) ([]byte, error) { return nil, Say{"AJ-Error", "later", string(a.Payload)} },
	// %q does for JSON: names have letters, digits and _:- alone
	"about": func(a *Attempt) ([]byte, error) {
		return fmt.Appendf(nil, `{"id":%q,"type":%q,"queue":%q,"try":%s,"max_tries":%s}`, a.Header["aj-task-id"],
			a.Header["aj-task-type"], a.Header["aj-queue"], a.Header["aj-try"], a.Header["aj-max-tries"]), nil
	},
	"slow": func(a *Attempt) ([]byte, error) {
		work, err := time.ParseDuration(string(a.Payload) + "ms")
		select {
		case <-time.After(work):
		case <-a.Done(): // the deadline: stop
		}
		return a.Payload, err
	},
	"progress": func(a *Attempt) ([]byte, error) {
		for quarter := 1; quarter <= 4; quarter++ {
			a.Progress(25*quarter, fmt.Sprintf("quarter %d of 4", quarter))
		}
		return []byte("done"), nil
	},
}
