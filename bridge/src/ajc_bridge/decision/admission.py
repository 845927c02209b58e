"""What an item that arrives leads to: `admit`, one case a row of the table of arrivals.

Only the store's record says what is to be done with a task; the item is no more than a reason to look. Whether an
earlier lease is over is the server's word (the delivery count), never a comparison of two machines' clocks.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, TypeAlias

from msgspec import Struct

from ajc.duration import MILLISECOND, MINUTE, SECOND
from ajc.exchange import clean_text
from ajc.instant import Instant
from ajc.subjects import is_id, is_type
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.lifecycle import (
    ACTIVE,
    BLOCKED,
    COMPLETE,
    EXPIRED,
    FINAL,
    KNOWN,
    Start,
    Terminate,
    apply,
)
from ajc_bridge.decision.lifecycle import Expire as ExpireChange
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.settlement import ABANDONED_TEXT, growing_ns, not_after_deadline, tries_left
from ajc_bridge.decision.transition import DeadLetter, ItemVerdict, Transition

DUE_WITHIN_NS: Final = 250 * MILLISECOND
"""A retry this close is due: the server's schedules are no finer."""
BLOCKED_WAIT_NS: Final = 5 * SECOND
FIRST_UNKNOWN_WAIT_NS: Final = 5 * SECOND
MAX_UNKNOWN_WAIT_NS: Final = 5 * MINUTE
SHOWN_TYPE_CHARACTERS: Final = 128
DEADLINE_TEXT: Final = "deadline passed"
TRIES_TEXT: Final = "tries used up"
_WORD: Final = re.compile(r"[a-z0-9_]{1,64}")


class Arrival(Struct, frozen=True):
    """An item as it came: from which queue, under which id, how often delivered.

    `item` None: its body cannot be decoded. `exhausted`: the server will not deliver it again (its queue's own cap
    of deliveries).
    """

    queue: str
    subject_id: str
    item: WorkItem | None
    item_bytes: bytes
    deliveries: int = 1
    exhausted: bool = False


class Record(Struct, frozen=True):
    """What the store holds for a task: bytes, revision, the server's time. `task` None: `malformed` says why not.

    `stored`: when, as the server's text where it came as one. `expires`: the store itself removes it in time; told of
    records that a scan has read.
    """

    task_id: str
    data: bytes
    revision: int
    stored: Instant | str
    task: Task | None = None
    malformed: str = ""
    expires: bool = False

    @property
    def stored_at(self) -> Instant:
        """When it was stored, by the server's clock: read when asked for, since most are run and nobody asks."""
        return self.stored if isinstance(self.stored, Instant) else Instant.parse(self.stored)


class Run(Struct, frozen=True):
    """Run it: `active` is the task to be saved (by revision) before the request goes out."""

    word: ClassVar[str] = "run"
    before: Task
    active: Task


class Drop(Struct, frozen=True):
    """No record, the leader asked too: it was removed after the item was written."""

    word: ClassVar[str] = "drop"
    transition: Transition


class Discard(Struct, frozen=True):
    """Complete already: nothing is left to do."""

    word: ClassVar[str] = "discard"
    transition: Transition


class Resettle(Struct, frozen=True):
    """Settled already, but perhaps not to the end: the tail of that settlement is played again."""

    word: ClassVar[str] = "resettle"
    transition: Transition


class Refuse(Struct, frozen=True):
    """Not fit to be run: an item or a record that cannot be read, or a type that makes no subject."""

    word: ClassVar[str] = "refuse"
    transition: Transition


class Wait(Struct, frozen=True):
    """Not now: a fresh item later."""

    word: ClassVar[str] = "wait"
    transition: Transition


class Expire(Struct, frozen=True):
    """Too late, or too often."""

    word: ClassVar[str] = "expire"
    transition: Transition


Admission: TypeAlias = Run | Drop | Discard | Resettle | Refuse | Wait | Expire

_DROP: Final = Drop(Transition.acked("no_record"))
_DISCARD: Final = Discard(Transition.acked("complete"))
_START: Final = Start()


def admit(record: Record | None, arrival: Arrival, policy: QueuePolicy, now: Instant) -> Admission:
    """Answer an item's arrival. `record` None: neither the store nor its leader has one."""
    item = arrival.item
    if item is None or not is_id(item.task_id):
        return _malformed_item(arrival, policy, now)
    if record is None:
        return _DROP
    task = record.task
    if task is None:
        return _malformed_task(record, record.malformed, policy, now)
    if task.id != record.task_id:
        return _malformed_task(record, "its id is not the one it is stored under", policy, now)
    state = task.state
    if state in FINAL:
        return _settled(record, task, policy)
    if state not in KNOWN:
        delay = growing_ns(FIRST_UNKNOWN_WAIT_NS, item.waits, MAX_UNKNOWN_WAIT_NS)
        return _wait("unknown_state", now.plus(delay), item.waits + 1)
    if not is_type(task.type):
        return _invalid_type(task, policy, now)
    if state == ACTIVE:
        first = arrival.deliveries <= 1 and not arrival.exhausted
        if first and now - record.stored_at < policy.max_run_time_ns:
            return _wait("leased", now.plus(policy.lease_ns), item.waits)
        return _abandoned(task, policy, now, exhausted=arrival.exhausted)
    due = task.next_try_at
    if due is not None and due - now > DUE_WITHIN_NS:
        return Resettle(Transition.later("rescheduled", None, due, waits=item.waits))
    if task.deadline is not None and now >= task.deadline:
        return _expire(task, task.last_err or DEADLINE_TEXT, "deadline", policy, now)
    if not tries_left(task, policy):
        return _expire(task, task.last_err or TRIES_TEXT, "tries", policy, now)
    if state == BLOCKED:
        return _wait("blocked", not_after_deadline(now.plus(BLOCKED_WAIT_NS), task, now), item.waits)
    if arrival.exhausted:
        return _expire(task, task.last_err or TRIES_TEXT, "tries", policy, now)
    return Run(task, apply(task, _START, now))


def hand_back(arrival: Arrival, policy: QueuePolicy, now: Instant) -> Transition:
    """Answer an item that is not begun here, since the bridge ends: somebody else has it at once.

    Where the server counts deliveries it comes as a fresh item: this one was delivered for nothing.
    """
    item = arrival.item
    if policy.max_deliver > 0 and item is not None and is_id(item.task_id):
        return Transition.later("handed_back", None, now, waits=item.waits)
    return Transition(reason="handed_back", item=ItemVerdict.NAK)


def _abandoned(task: Task, policy: QueuePolicy, now: Instant, *, exhausted: bool) -> Admission:
    """Go on after an attempt whose bridge was lost; its try is counted already."""
    if exhausted or not tries_left(task, policy):
        return _expire(task, ABANDONED_TEXT, "tries", policy, now)
    if task.deadline is not None and now >= task.deadline:
        return _expire(task, DEADLINE_TEXT, "deadline", policy, now)
    return Run(task, apply(task, _START, now))


def _settled(record: Record, task: Task, policy: QueuePolicy) -> Admission:
    """Play a final state's tail again: the dead letter, which a complete or a cancelled task does not have.

    Behind its letter the record is removed, where its state is not kept.
    """
    if task.state == COMPLETE:
        return _DISCARD
    if task.cancelled is not None:
        return Resettle(Transition.acked("resettled"))
    letter = DeadLetter(
        queue=policy.queue,
        task_id=record.task_id,
        type=task.type,
        reason=_kept_reason(task) or _derived_reason(record, task, policy),
        error=task.last_err,
        tries=task.tries,
        time=record.stored_at,
        body=record.data,
    )
    return Resettle(Transition(reason="resettled", dead_letter=letter, discard=policy.ttl_ns(task.state) == 0))


def _kept_reason(task: Task) -> str:
    """Return the word that the record keeps, of a newer bridge too; a text that is no word is nobody's reason."""
    return task.dead_letter if _WORD.fullmatch(task.dead_letter) else ""


def _derived_reason(record: Record, task: Task, policy: QueuePolicy) -> str:
    """Derive the reason for a record without the key (Go's): the state's name, or which cause of `expired` holds.

    That is the deadline when it had passed by the time of the save and tries were left, else the tries.
    """
    if task.state != EXPIRED:
        return task.state
    late = task.deadline is not None and task.deadline <= record.stored_at
    return "deadline" if late and tries_left(task, policy) else "tries"


def _expire(task: Task, text: str, reason: str, policy: QueuePolicy, now: Instant) -> Expire:
    return Expire(Transition.ended(reason, apply(task, ExpireChange(text, reason), now), policy, now))


def _wait(reason: str, at: Instant, waits: int) -> Wait:
    return Wait(Transition.later(reason, None, at, waits=waits))


def _invalid_type(task: Task, policy: QueuePolicy, now: Instant) -> Refuse:
    text = clean_text(f"invalid task type {task.type[:SHOWN_TYPE_CHARACTERS]!r}")
    return Refuse(Transition.ended("invalid_type", apply(task, Terminate(text, "invalid_type"), now), policy, now))


def _malformed_item(arrival: Arrival, policy: QueuePolicy, now: Instant) -> Refuse:
    letter = DeadLetter(
        queue=policy.queue,
        task_id=arrival.subject_id,
        type="",
        reason="malformed_item",
        error="the queue's item cannot be decoded"
        if arrival.item is None
        else "the queue's item names no legal task id",
        tries=0,
        time=now,
        body=arrival.item_bytes,
    )
    return Refuse(Transition(reason="malformed_item", dead_letter=letter))


def _malformed_task(record: Record, why: str, policy: QueuePolicy, now: Instant) -> Refuse:
    letter = DeadLetter(
        queue=policy.queue,
        task_id=record.task_id,
        type="",
        reason="malformed_task",
        error=clean_text(f"the stored task cannot be decoded: {why}"),
        tries=0,
        time=now,
        body=record.data,
    )
    return Refuse(Transition(reason="malformed_task", dead_letter=letter))
