"""The responder of the benchmarks: one process that answers every request at once, in the queue group `ajc`.

    python bench/responder.py PORT SUBJECT

`bench.responder` answers with what it has seen, as JSON; after a message on `bench.stamp.on` each request is also
reported on `bench.stamp`, with the CLOCK_MONOTONIC instant (nanoseconds) at which it came.
"""

from __future__ import annotations

import gc
import json
import sys
import time

import uvloop
from wireclient import WireClient, connect


class Responder:
    def __init__(self, client: WireClient) -> None:
        self.client = client
        self.seen = 0
        self.stamping = False

    def on_request(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del subject, headers, body
        if self.stamping:
            self.client.publish(b"bench.stamp", b"%d" % time.monotonic_ns())
        self.seen += 1
        self.client.send(b"PUB %b 2\r\nok\r\n" % reply)

    def on_question(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del subject, headers, body
        self.client.publish(reply, json.dumps({"seen": self.seen}).encode())

    def on_stamp(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del reply, headers, body
        self.stamping = subject.endswith(b".on")


async def main() -> None:
    client = await connect(int(sys.argv[1]))
    responder = Responder(client)
    client.subscribe(sys.argv[2].encode(), responder.on_request, b"ajc")
    client.subscribe(b"bench.responder", responder.on_question)
    client.subscribe(b"bench.stamp.*", responder.on_stamp)
    await client.flush()
    gc.freeze()
    print("ready", flush=True)
    await client.closed


if __name__ == "__main__":
    uvloop.run(main())
