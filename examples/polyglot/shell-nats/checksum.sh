#!/bin/sh
# The SHA-256 of the payload, in hexadecimal.
./echo.sh | sha256sum | cut -d ' ' -f 1
