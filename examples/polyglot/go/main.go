// A responder for ajc-bridge. To make it yours: replace the handlers here, leave conform.go out, keep responder.go.
package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
)

// checksum shows what a handler looks like. Any error is tried again, Say AJ-Terminate is not.
func checksum(attempt *Attempt) ([]byte, error) {
	if len(attempt.Payload) == 0 {
		return nil, Say{Header: "AJ-Terminate", Text: "nothing to sum up"}
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(attempt.Payload))
	return json.Marshal(map[string]any{"sha256": sum, "bytes": len(attempt.Payload)})
}

func main() {
	handlers := map[string]Handler{"sha256": checksum}
	maps.Copy(handlers, conform)
	family, prefix := cmp.Or(os.Getenv("AJC_FAMILY"), "conform"), cmp.Or(os.Getenv("EXEC_PREFIX"), "ajc.exec")
	if err := Serve(prefix, family, handlers); err != nil {
		log.Fatal(err)
	}
}
