#!/bin/sh
# A responder in shell. Start it with: ajc-bridge exec words:count -- ./count-words.sh
# The payload comes on stdin, the result goes to stdout, the exit code says what happened.
text=$(cat)
if [ -z "$text" ]; then
    echo "there is no text" >&2
    exit 65 # terminate: trying again would not help
fi
if [ "$text" = "busy at first" ] && [ "$AJ_TRY" -lt 2 ]; then
    echo "the dictionary is being moved" >&2
    exit 75 # try again
fi
printf '%s' "$text" | wc -w
