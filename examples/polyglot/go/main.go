// A responder for ajc-bridge. To make it yours: put your handlers here, leave conform.go out, keep responder.go.
package main

import (
	"crypto/sha256"
	"fmt"
)

// checksum shows what a handler looks like. An error is tried again, Say{"AJ-Terminate", ...} is not.
func checksum(a *Attempt) ([]byte, error) {
	return fmt.Appendf(nil, `{"sha256":"%x","bytes":%d}`, sha256.Sum256(a.Payload), len(a.Payload)), nil
}

func main() {
	Serve(map[string]Handler{"sha256": checksum}, conform)
}
