"""The floor: what a client costs that sends the bridge's messages and takes no decisions.

    python bench/floor.py PORT QUEUE CONCURRENCY

Per task, as the bridge: the item in (batched pull), the record in (batched direct get, `multi_last`), the active save
by revision out and its ack in, the event out, the request out and the reply in, the final save by revision out and
its ack in, the event out, the item's ack out. Each save's ack is awaited before the next step. What is left out is
everything that decides: no JSON is parsed (records are spliced as bytes), no clock is compared, nothing is retried,
and there is no task or future, only a table of slots and the step each of them waits for. An answer that is not the
expected one ends the process.
"""

from __future__ import annotations

import gc
import os
import sys
import time

import uvloop
from wireclient import WireClient, connect

FREE, ACTIVE, REPLY, FINAL = range(4)
GET = b"$JS.API.DIRECT.GET.CHORIA_AJ_TASKS"
REQUEST_HEADERS = (
    b"NATS/1.0\r\nAJ-Content-Type: application/x-asyncjobs-task+json\r\nAJ-Handler-Deadline: %b\r\nAJ-Protocol: 1\r\n"
    b"AJ-Task-Id: %b\r\nAJ-Task-Type: bench\r\nAJ-Queue: %b\r\nAJ-Try: 1\r\nAJ-Max-Tries: 10\r\n"
    b"AJ-Timeout-Ms: 58000\r\nAJ-Heartbeat-Subject: ajc.beat.floor.%b\r\nAJ-Heartbeat-Ms: 20000\r\n\r\n"
)
EVENT = (
    b'{"event_id":"%027d","type":"io.choria.asyncjobs.v1.task_state","timestamp":"%bZ","task_id":"%b","state":"%b",'
    b'"tries":1,"queue":"%b","task_type":"bench","task_age":1000000000}'
)


class Slot:
    __slots__ = ("ack", "inbox", "name", "record", "revision", "step", "task_id")

    def __init__(self, name: bytes, inbox: bytes) -> None:
        self.name, self.inbox = name, inbox
        self.step = FREE
        self.task_id = self.record = self.ack = self.revision = b""


class Floor:
    """Slots wait for one message at a time, each on a subject of its own under the client's inbox."""

    def __init__(self, client: WireClient, queue: bytes, concurrency: int) -> None:
        self.client, self.queue = client, queue
        prefix = client.inbox + b".f."
        self.cut = len(prefix)
        self.slots = [Slot(b"%d" % number, b"%b%d" % (prefix, number)) for number in range(concurrency)]
        self.free = list(self.slots)
        self.unclaimed = concurrency  # slots without an item under way or asked for
        self.arrived: dict[bytes, bytes] = {}  # task id -> ack subject: the record is not asked for yet
        self.loading: dict[bytes, bytes] = {}  # the same, asked for
        self.pull_due = False
        self.events = 0
        self.second, self.second_text = 0, b""
        self.item_inbox, self.record_inbox = client.inbox + b".p.x", client.inbox + b".r.x"
        client.subscribe(prefix + b"*", self.on_step)
        client.subscribe(self.record_inbox, self.on_record)
        client.subscribe(self.item_inbox, self.on_item)

    def now(self) -> bytes:
        second, fraction = divmod(time.time_ns(), 1_000_000_000)
        if second != self.second:
            self.second = second
            self.second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%09dZ" % (self.second_text, fraction)

    # -- items and records --------------------------------------------------------------------------------------------

    def pull(self) -> None:
        """One request for all that is free, once that is a quarter of the slots."""
        self.pull_due = False
        if self.unclaimed * 4 >= len(self.slots):
            body = b'{"batch":%d,"expires":60000000000}' % self.unclaimed
            self.unclaimed = 0
            self.client.publish(b"$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_%b.WORKERS" % self.queue, body, self.item_inbox)

    def on_item(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del body
        if not reply:
            stop(f"pull: {headers!r}")
        if not self.arrived:
            self.client.loop.call_soon(self.load)
        self.arrived[subject[subject.rindex(b".") + 1 :]] = reply

    def load(self) -> None:
        """One request for the records of all items that came in this tick."""
        body = b'{"multi_last":["CHORIA_AJ.T.' + b'","CHORIA_AJ.T.'.join(self.arrived) + b'"]}'
        self.loading.update(self.arrived)
        self.arrived.clear()
        self.client.publish(GET, body, self.record_inbox)

    def on_record(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del subject, reply
        if headers.startswith(b"NATS/1.0 "):
            if not headers.startswith(b"NATS/1.0 204"):
                stop(f"direct get: {headers!r}")
            return
        at = headers.index(b"Nats-Subject: CHORIA_AJ.T.") + 26
        task_id = headers[at : headers.index(b"\r", at)]
        at = headers.index(b"Nats-Sequence: ") + 15
        slot = self.free.pop()
        slot.task_id, slot.ack, slot.step = task_id, self.loading.pop(task_id), ACTIVE
        slot.revision = headers[at : headers.index(b"\r", at)]
        record = body.replace(b'"state":"new"', b'"state":"active"', 1)
        slot.record = record[: record.rindex(b',"tries":0')] + b',"tried":"%b","tries":1}' % self.now()
        self.save(slot)

    # -- the steps of a task -------------------------------------------------------------------------------------------

    def save(self, slot: Slot) -> None:
        headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %b\r\n\r\n" % slot.revision
        self.client.publish_headers(b"CHORIA_AJ.T." + slot.task_id, headers, slot.record, slot.inbox)

    def event(self, slot: Slot, state: bytes) -> None:
        self.events += 1
        body = EVENT % (self.events, self.second_text, slot.task_id, state, self.queue)
        self.client.publish(b"CHORIA_AJ.E.task_state." + slot.task_id, body)

    def on_step(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del reply
        slot = self.slots[int(subject[self.cut :])]
        if slot.step == ACTIVE:
            slot.revision = sequence_of(body)
            self.event(slot, b"active")
            slot.step = REPLY
            block = REQUEST_HEADERS % (self.now(), slot.task_id, self.queue, slot.name)
            self.client.publish_headers(b"ajc.exec.bench", block, slot.record, slot.inbox)
        elif slot.step == REPLY:
            if headers or body != b"ok":
                stop(f"reply: {headers!r} {body!r}")
            record = slot.record.replace(b'"state":"active"', b'"state":"complete"', 1)
            slot.record = record[:-1] + b',"result":{"payload":"b2s=","completed":"%b"}}' % self.now()
            slot.step = FINAL
            self.save(slot)
        elif slot.step == FINAL:
            sequence_of(body)
            self.event(slot, b"complete")
            self.client.send(b"PUB %b 4\r\n+ACK\r\n" % slot.ack)
            slot.step = FREE
            self.free.append(slot)
            self.unclaimed += 1
            if not self.pull_due:
                self.pull_due = True
                self.client.loop.call_soon(self.pull)
        else:
            stop(f"a message for a free slot: {subject!r}")


def sequence_of(ack: bytes) -> bytes:
    """The revision in a store's ack; anything else ends the run."""
    at = ack.find(b'"seq":')
    if at < 0:
        stop(f"save: {ack!r}")
    end = ack.find(b",", at)
    return ack[at + 6 : end if end > 0 else -1].strip(b"} ")


def stop(why: str) -> None:
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


async def main() -> None:
    client = await connect(int(sys.argv[1]))
    floor = Floor(client, sys.argv[2].encode(), int(sys.argv[3]))
    await client.flush()
    gc.freeze()
    floor.pull()
    print("ready", flush=True)
    await client.closed


if __name__ == "__main__":
    uvloop.run(main())
