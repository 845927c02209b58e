"""The floor written as one writes asyncio: a coroutine and a task for each attempt, a future for each answer.

    python bench/floor_coroutines.py PORT QUEUE CONCURRENCY

The same messages and no more decisions than `floor.py`; the difference between the two is the price of asyncio's own
tasks and futures, which a bridge that is to be read and extended pays too.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import uvloop
from floor import REQUEST_HEADERS, Floor, sequence_of, stop
from wireclient import connect

REVISION = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %b\r\n\r\n"


class CoroutineFloor(Floor):
    """Pulls and loads as the floor does; each loaded record is then a task of the loop."""

    running: set[asyncio.Task[None]]

    def on_record(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del subject, reply
        if headers.startswith(b"NATS/1.0 "):
            if not headers.startswith(b"NATS/1.0 204"):
                stop(f"direct get: {headers!r}")
            return
        at = headers.index(b"Nats-Subject: CHORIA_AJ.T.") + 26
        task_id = headers[at : headers.index(b"\r", at)]
        at = headers.index(b"Nats-Sequence: ") + 15
        revision = headers[at : headers.index(b"\r", at)]
        work = self.client.loop.create_task(self.work(task_id, self.loading.pop(task_id), revision, body))
        self.running.add(work)
        work.add_done_callback(self.on_done)

    def on_done(self, work: asyncio.Task[None]) -> None:
        self.running.discard(work)
        if (error := work.exception()) is not None:
            stop(repr(error))

    async def work(self, task_id: bytes, ack: bytes, revision: bytes, record: bytes) -> None:
        slot, client = self.free.pop(), self.client
        slot.task_id = task_id
        subject = b"CHORIA_AJ.T." + task_id
        record = record.replace(b'"state":"new"', b'"state":"active"', 1)
        record = record[: record.rindex(b',"tries":0')] + b',"tried":"%b","tries":1}' % self.now()
        _, answer = await client.ask(subject, record, REVISION % revision)
        revision = sequence_of(answer)
        self.event(slot, b"active")
        block = REQUEST_HEADERS % (self.now(), task_id, self.queue, slot.name)
        headers, body = await client.ask(b"ajc.exec.bench", record, block)
        if headers or body != b"ok":
            stop(f"reply: {headers!r} {body!r}")
        record = record.replace(b'"state":"active"', b'"state":"complete"', 1)
        record = record[:-1] + b',"result":{"payload":"b2s=","completed":"%b"}}' % self.now()
        _, answer = await client.ask(subject, record, REVISION % revision)
        sequence_of(answer)
        self.event(slot, b"complete")
        client.send(b"PUB %b 4\r\n+ACK\r\n" % ack)
        self.free.append(slot)
        self.unclaimed += 1
        if not self.pull_due:
            self.pull_due = True
            client.loop.call_soon(self.pull)


async def main() -> None:
    client = await connect(int(sys.argv[1]))
    floor = CoroutineFloor(client, sys.argv[2].encode(), int(sys.argv[3]))
    floor.running = set()
    await client.flush()
    gc.freeze()
    floor.pull()
    print("ready", flush=True)
    await client.closed


if __name__ == "__main__":
    uvloop.run(main())
