"""Builders for the tables of this folder, and `Answer`: a decision boiled down to what a row can state in a line."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from ajc.duration import MILLISECOND, MINUTE, SECOND
from ajc.instant import Instant
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Arrival, Record
from ajc_bridge.decision.backoff import Backoff
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.transition import Transition

NOW = Instant.parse("2026-03-01T12:00:00.123456789Z")
CREATED = NOW.plus(-1_000 * SECOND)
EARLIER = NOW.plus(-100 * SECOND)
ID = "24ErgVol4ZjpoQ8FAima9R2jEHB"
STEP = 7 * SECOND
FLAT = Backoff("flat", (STEP, 2 * STEP))


def make_task(state: str = "new", **fields: Any) -> Task:
    given = {
        "id": ID,
        "type": "email:new",
        "queue": "EMAIL",
        "payload": b'{"to":"x@example.net"}',
        "max_tries": 10,
        "created": CREATED,
    }
    return Task(**given | {"state": state} | fields)


def running(before: Task | None = None, **fields: Any) -> tuple[Task, Task]:
    """A task before its attempt and while it runs."""
    before = make_task(**fields) if before is None else before
    return before, before.replace(state="active", tries=before.tries + 1, tried=EARLIER, last_err="", next_try_at=None)


def make_policy(**fields: Any) -> QueuePolicy:
    given = {"queue": "EMAIL", "lease_ns": 30 * SECOND, "max_run_time_ns": 10 * MINUTE, "max_tries": 5, "backoff": FLAT}
    return QueuePolicy(**given | fields)


def make_record(task: Task | None, *, age: int = MINUTE, **fields: Any) -> Record:
    given: dict[str, Any] = {
        "task_id": ID,
        "data": task.encode() if task is not None else b"{",
        "revision": 17,
        "stored": NOW.plus(-age),
        "task": task,
    }
    return Record(**given | fields)


def make_arrival(**fields: Any) -> Arrival:
    given: dict[str, Any] = {"queue": "EMAIL", "subject_id": ID, "item": WorkItem(task_id=ID), "item_bytes": b"{}"}
    return Arrival(**given | fields)


def after(ns: int) -> Instant:
    return NOW.plus(ns)


class Letter(Struct, frozen=True):
    """What a dead letter says; `body` "task" stands for the task as saved."""

    reason: str
    error: str
    tries: int = 0
    body: bytes | str = "task"
    time: Instant = NOW
    type: str = "email:new"
    task_id: str = ID
    queue: str = "EMAIL"


class Answer(Struct, frozen=True, kw_only=True):
    """A transition in the tables' words: `saved` holds the fields that change, `after` is (ns from now, waits)."""

    reason: str
    saved: dict[str, Any] | None = None
    letter: Letter | None = None
    after: tuple[int, int] | None = None
    item: str = "ack"
    ttl: int | None = None
    discard: bool = False
    counted: bool = False

    @classmethod
    def of(cls, transition: Transition, found: Task | None) -> Answer:
        letter = transition.dead_letter
        plan = transition.schedule
        return cls(
            reason=transition.reason,
            saved=None if transition.task is None else changed(found, transition.task),
            letter=letter
            and Letter(
                letter.reason,
                letter.error,
                letter.tries,
                "task" if letter.body is None else letter.body,
                letter.time,
                letter.type,
                letter.task_id,
                letter.queue,
            ),
            after=plan and (plan.at - NOW, plan.waits),
            item=str(transition.item),
            ttl=transition.ttl_ns,
            discard=transition.discard,
            counted=transition.counted,
        )


def changed(before: Task | None, after: Task) -> dict[str, Any]:
    assert before is not None
    old, new = structs.asdict(before), structs.asdict(after)
    return {field: value for field, value in new.items() if value != old[field]}


__all__ = ["MILLISECOND", "MINUTE", "SECOND"]
