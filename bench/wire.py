"""What reading and writing the wire costs: microseconds of CPU per operation, the best of several rounds.

python bench/wire.py [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
import timeit
from collections.abc import Callable

from msgspec import Raw

from ajc import ksuid
from ajc.events import TaskStateChanged, decode_event, encode_state_change
from ajc.exchange import ExecRequest, clean_text, read_reply
from ajc.headers import parse_headers
from ajc.instant import Instant
from ajc.subjects import item_subject, task_subject
from ajc.task import Result, Task
from ajc.work_item import WorkItem

NUMBER = 20_000  # operations a round


def operations() -> dict[str, Callable[[], object]]:
    now = Instant.parse("2026-01-02T03:04:05.123456789Z")
    new = Task.create(
        "email:new", b'{"body":"' + b"y" * 189 + b'"}', queue="EMAIL", deadline=now.plus(10**12), created=now
    )
    active = new.replace(state="active", tries=1, tried=now.plus(12_345_678))
    done = active.replace(state="complete", result=Result.of_bytes(b"done", now.plus(98_765_432)))
    kept = active.replace(extra={"trace": Raw(b'{"id":12345678901234567890}')})
    new_json, active_json, done_json, kept_json = (task.encode() for task in (new, active, done, kept))
    item = WorkItem(new.id)
    item_json = item.encode()
    event = TaskStateChanged.of(active, now)
    event_json = event.encode()
    request = ExecRequest(
        task_id=new.id,
        type=new.type,
        queue=new.queue,
        try_number=1,
        max_tries=10,
        deadline=now,
        timeout_ms=28_000,
        heartbeat_subject="ajc.beat.b1.a1",
        heartbeat_ms=10_000,
        body=active_json,
    )
    block = request.headers()
    error_block = b"NATS/1.0\r\nAJ-Error: smtp down\r\nAJ-Retry-After-Ms: 5000\r\n\r\n"
    seconds = iter(range(1_700_000_000, 10**12, 7))
    return {
        "Task.decode (new)": lambda: Task.decode(new_json),
        "Task.decode (complete, result)": lambda: Task.decode(done_json),
        "Task.decode (unknown key)": lambda: Task.decode(kept_json),
        "Task.encode (new)": new.encode,
        "Task.encode (active)": active.encode,
        "Task.encode (complete, result)": done.encode,
        "Task.encode (unknown key)": kept.encode,
        "Task.replace": lambda: new.replace(state="active", tries=1, tried=now),
        "Task.create (bytes)": lambda: Task.create("email:new", b"x", queue="EMAIL"),
        "WorkItem.decode": lambda: WorkItem.decode(item_json),
        "WorkItem.encode": item.encode,
        "TaskStateChanged.of": lambda: TaskStateChanged.of(active, now),
        "TaskStateChanged.encode": event.encode,
        "encode_state_change": lambda: encode_state_change(active, now, "EMAIL"),
        "decode_event": lambda: decode_event(event_json),
        "ksuid.new": lambda: ksuid.new(1_767_323_045),
        "ExecRequest.headers": request.headers,
        "ExecRequest.decode": lambda: ExecRequest.decode(block, active_json),
        "read_reply (no headers)": lambda: read_reply(None, b"done"),
        "read_reply (error)": lambda: read_reply(error_block, b""),
        "parse_headers (11 lines)": lambda: parse_headers(block),
        "clean_text": lambda: clean_text("smtp down"),
        "Instant.parse": lambda: Instant.parse("2026-01-02T03:04:05.123456789Z"),
        "Instant.parse (a new second)": lambda: Instant.parse(Instant(next(seconds) * 10**9).rfc3339()),
        "Instant.rfc3339": now.rfc3339,
        "item_subject": lambda: item_subject("EMAIL", new.id),
        "task_subject": lambda: task_subject(new.id),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5, help="rounds per operation; the best counts")
    arguments.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = arguments.parse_args()
    figures = {
        name: min(timeit.repeat(operation, timer=time.process_time, number=NUMBER, repeat=given.rounds)) / NUMBER * 1e6
        for name, operation in operations().items()
    }
    if given.json:
        print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))
        return
    for name, figure in figures.items():
        print(f"{name:34}{figure:8.2f} us")


if __name__ == "__main__":
    main()
