#!/bin/sh
# The task is in NATS_REQUEST_BODY, as JSON; what is written is the result, whatever the exit code.
printf '%s' "$NATS_REQUEST_BODY" | jq --raw-output '.payload // ""' | base64 --decode
