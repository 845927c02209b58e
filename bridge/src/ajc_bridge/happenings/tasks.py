"""What happens to a task: saved, tried, settled, put back, found again."""

from __future__ import annotations

from typing import ClassVar

from ajc.task import Task
from ajc_bridge.happenings.detail import Detail


class TaskSaved(Detail, frozen=True, gc=False):
    """The store has acknowledged this revision of a task, or discarded a finished one (`revision` 0, never stored)."""

    action: ClassVar[str] = "task.saved"
    task: Task
    queue: str
    revision: int


class SaveFailed(Detail, frozen=True, gc=False):
    """A save was refused or its answer never came (a lost revision is `RevisionConflict`)."""

    action: ClassVar[str] = "task.save_failed"
    queue: str
    task_id: str
    text: str


class RevisionConflict(Detail, frozen=True, gc=False):
    """Somebody else has saved the task meanwhile: it is theirs, nothing more is sent."""

    action: ClassVar[str] = "task.revision_conflict"
    queue: str
    task_id: str


class AttemptStarted(Detail, frozen=True, gc=False):
    """The request of an attempt goes out."""

    action: ClassVar[str] = "attempt.started"
    queue: str
    type: str
    task_id: str
    try_number: int


class AttemptEnded(Detail, frozen=True, gc=False):
    """An attempt has its outcome; `outcome` is the outcome's word.

    `dispatch_ns`: from the item's arrival to the request. `handler_ns`: from the request to the outcome.
    """

    action: ClassVar[str] = "attempt.ended"
    queue: str
    type: str
    task_id: str
    try_number: int
    outcome: str
    dispatch_ns: int
    handler_ns: int
    text: str


class AttemptBeaten(Detail, frozen=True, gc=False):
    """A running attempt's responder gave a sign of life, and perhaps told how far it is (`percent`, `message`)."""

    action: ClassVar[str] = "attempt.heartbeat"
    queue: str
    type: str
    task_id: str
    try_number: int
    percent: int | float | None
    message: str


class AttemptCancelled(Detail, frozen=True, gc=False):
    """Somebody cancelled the task while its attempt ran here: nothing of it is saved, and its item is acknowledged."""

    action: ClassVar[str] = "attempt.cancelled"
    queue: str
    type: str
    task_id: str
    try_number: int


class TaskSettled(Detail, frozen=True, gc=False):
    """A transition was performed to its end: saved, item answered. `state` is the state saved, "" when none was."""

    action: ClassVar[str] = "task.settled"
    queue: str
    type: str
    task_id: str
    reason: str
    state: str
    tries: int
    text: str


class DeadLettered(Detail, frozen=True, gc=False):
    """A dead letter is stored."""

    action: ClassVar[str] = "task.dead_lettered"
    queue: str
    type: str
    task_id: str
    reason: str


class TaskParked(Detail, frozen=True, gc=False):
    """Nobody could take the task (no responder, or all busy): it waits in the delay stream, no try is used.

    `waits`: how often in a row, from 1. `delay_ns`: how long this time.
    """

    action: ClassVar[str] = "task.parked"
    queue: str
    type: str
    task_id: str
    waits: int
    delay_ns: int
    text: str


class ReplyIgnored(Detail, frozen=True, gc=False):
    """A reply that changes nothing. `kind`: late, duplicate or malformed."""

    action: ClassVar[str] = "reply.ignored"
    kind: str
    type: str
    task_id: str


class BeatIgnored(Detail, frozen=True, gc=False):
    """A beat that changes nothing. `kind`: over (its attempt has ended), unknown, or malformed.

    Malformed is its body alone: it was a sign of life all the same.
    """

    action: ClassVar[str] = "heartbeat.ignored"
    kind: str
    type: str
    task_id: str


class RetryAfterIgnored(Detail, frozen=True, gc=False):
    """A reply asked for a retry after something that is no number of milliseconds."""

    action: ClassVar[str] = "reply.retry_after_ignored"
    type: str
    task_id: str


class LeaseLost(Detail, frozen=True, gc=False):
    """The lease ran out, or its renewal failed, while the attempt ran: no ack is sent for it."""

    action: ClassVar[str] = "lease.lost"
    queue: str
    task_id: str


class ItemCameAgain(Detail, frozen=True, gc=False):
    """The server delivered an item that is being worked on: its lease was shorter there than is known here."""

    action: ClassVar[str] = "item.came_again"
    queue: str
    task_id: str
    deliveries: int


class ItemDropped(Detail, frozen=True, gc=False):
    """An item was acknowledged without a run; `reason` says why (no_record, complete, …)."""

    action: ClassVar[str] = "item.dropped"
    queue: str
    task_id: str
    reason: str


class ItemWaits(Detail, frozen=True, gc=False):
    """An item goes back to the delay stream without a run. `word` is the admission's; `state` the record's."""

    action: ClassVar[str] = "item.waits"
    queue: str
    task_id: str
    word: str
    state: str
    waits: int


class Rescued(Detail, frozen=True, gc=False):
    """A task that no item would have brought back was found and settled (exhausted, evicted, orphaned)."""

    action: ClassVar[str] = "task.rescued"
    queue: str
    task_id: str
    reason: str


class UnknownState(Detail, frozen=True, gc=False):
    """A task in a state that this version does not know; logged once per word."""

    action: ClassVar[str] = "task.unknown_state"
    queue: str
    task_id: str
    state: str
