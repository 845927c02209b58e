"""The floor of `enqueue_many`: the same two publishes a task (and the event), pipelined, no decisions.

    python bench/enqueue_floor.py PORT QUEUE COUNT IN_FLIGHT

Per task: the record out (expected revision 0), its ack in, then the event and the item out, the item's ack in; never
more than IN_FLIGHT tasks between the first and the last of these. Prints {"tasks": n, "seconds": s, "cpu": s}.
"""

from __future__ import annotations

import gc
import json
import sys
import time

import uvloop
from floor import sequence_of
from stage import new_task, payload_of, task_ids
from wireclient import WireClient, connect

NEW = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
EVENT = (
    b'{"event_id":"%b","type":"io.choria.asyncjobs.v1.task_state","timestamp":"2026-01-01T00:00:00Z","task_id":"%b",'
    b'"state":"new","tries":0,"queue":"%b","task_type":"bench","task_age":1000000}'
)


class Producer:
    def __init__(self, client: WireClient, queue: str, count: int, in_flight: int) -> None:
        self.client, self.queue, self.count = client, queue, count
        self.ids = task_ids(count)
        self.payload = payload_of(200)
        self.finished = client.loop.create_future()
        self.sent = self.done = 0
        self.saves, self.items = client.inbox + b".s.", client.inbox + b".i."
        self.cut = len(self.saves)
        client.subscribe(self.saves + b"*", self.on_saved)
        client.subscribe(self.items + b"*", self.on_queued)
        self.in_flight = min(in_flight, count)

    def start(self) -> None:
        for _ in range(self.in_flight):
            self.save_next()

    def save_next(self) -> None:
        number = self.sent
        self.sent += 1
        task_id = self.ids[number]
        body = new_task(task_id, self.queue, "2026-01-01T00:00:00.000000000Z", self.payload)
        self.client.publish_headers(f"CHORIA_AJ.T.{task_id}".encode(), NEW, body, b"%b%d" % (self.saves, number))

    def on_saved(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del reply, headers
        sequence_of(body)
        number = subject[self.cut :]
        task_id, queue = self.ids[int(number)].encode(), self.queue.encode()
        self.client.publish(b"CHORIA_AJ.E.task_state." + task_id, EVENT % (task_id, task_id, queue))
        block = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % task_id
        item = b'{"kind":0,"job":"%b"}' % task_id
        self.client.publish_headers(b"CHORIA_AJ.Q.%b.%b" % (queue, task_id), block, item, self.items + number)

    def on_queued(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del subject, reply, headers
        sequence_of(body)
        self.done += 1
        if self.sent < self.count:
            self.save_next()
        elif self.done == self.count:
            self.finished.set_result(None)


async def main() -> None:
    client = await connect(int(sys.argv[1]))
    producer = Producer(client, sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    await client.flush()
    gc.freeze()
    began, cpu = time.monotonic(), time.process_time()
    producer.start()
    await producer.finished
    result = {"tasks": producer.count, "seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
