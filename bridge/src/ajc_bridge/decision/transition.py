"""What is to be done about a task, as a value: nothing in here does it.

It is performed in this order, each step acknowledged before the next: save -> dead letter -> removal -> schedule ->
item.
Every step may be played again after a crash without changing anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from ajc.instant import Instant
from ajc.task import Task

if TYPE_CHECKING:
    from ajc_bridge.decision.policy import QueuePolicy


SHORT_TEXT: Final = 80
"""Characters that `Transition.shortened` leaves of an error."""


class ItemVerdict(StrEnum):
    """What the server is told about the queue's item."""

    ACK = "ack"
    NAK = "nak"
    """Deliver it again, at once."""


class DeadLetter(Struct, frozen=True):
    """A task's last word, in the stream of dead letters: one a subject, so writing it again doubles nothing."""

    queue: str
    task_id: str
    type: str
    reason: str
    error: str
    tries: int
    time: Instant
    body: bytes | None = None
    """None: the transition's task as it is saved."""

    def emptied(self) -> DeadLetter:
        """Leave the body out, for a letter that does not fit otherwise."""
        return replace(self, body=b"")


class Schedule(Struct, frozen=True):
    """A fresh item at a later instant, through the delay stream. One a task: it replaces any earlier one.

    `waits`: how often in a row the task was put back without a counted try, kept in the item.
    """

    at: Instant
    waits: int = 0


class Transition(Struct, frozen=True, kw_only=True):
    """One decision. `reason` is a stable word for logs and metrics.

    `task` None: no save, no event. `discard`: the record is not kept. Without a dead letter it is removed instead of
    saved in its final state (the event is still published); with one it is saved first, and removed behind the letter.
    `ttl_ns`: how long the saved record is kept, None: as the store does.
    `counted`: an attempt ended and its try stays counted.
    """

    reason: str
    task: Task | None = None
    dead_letter: DeadLetter | None = None
    schedule: Schedule | None = None
    item: ItemVerdict = ItemVerdict.ACK
    ttl_ns: int | None = None
    discard: bool = False
    counted: bool = False

    @classmethod
    def acked(cls, reason: str) -> Transition:
        """Send nothing but the ack: the work behind this item is over."""
        return cls(reason=reason)

    @classmethod
    def ended(
        cls,
        reason: str,
        task: Task,
        policy: QueuePolicy,
        now: Instant,
        *,
        counted: bool = False,
    ) -> Transition:
        """End the task in a final state, with its dead letter; `reason` is the dead letter's."""
        ttl = policy.ttl_ns(task.state)
        return cls(
            reason=reason,
            task=task,
            dead_letter=DeadLetter(
                queue=policy.queue,
                task_id=task.id,
                type=task.type,
                reason=reason,
                error=task.last_err,
                tries=task.tries,
                time=now,
            ),
            ttl_ns=ttl or None,
            discard=ttl == 0,
            counted=counted,
        )

    @classmethod
    def completed(cls, task: Task, policy: QueuePolicy) -> Transition:
        """End the task with its result."""
        if policy.retention:
            ttl = policy.ttl_ns(task.state)
            return cls(reason="complete", task=task, ttl_ns=ttl or None, discard=ttl == 0, counted=True)
        return cls(reason="complete", task=task, counted=True)

    @classmethod
    def later(cls, reason: str, task: Task | None, at: Instant, *, waits: int = 0, counted: bool = False) -> Transition:
        """Make a fresh item at `at`; `task` None leaves the record as it is."""
        return cls(reason=reason, task=task, schedule=Schedule(at, waits), counted=counted)

    @classmethod
    def put_back(cls, reason: str, task: Task) -> Transition:
        """Hand the item back at once, for another bridge to take."""
        return cls(reason=reason, task=task, item=ItemVerdict.NAK)

    def shortened(self) -> Transition:
        """Cut the error's text to a few words, for a task that does not fit its store with all of it."""
        task = self.task
        if task is None or len(task.last_err) <= SHORT_TEXT:
            return self
        return replace(self, task=task.replace(last_err=task.last_err[: SHORT_TEXT - 1] + "…"))
