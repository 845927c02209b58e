"""What the pipeline needs of the world, as protocols: kept by `jetstream/` on NATS, by `ajc.testing` in memory.

Every method that waits may raise `ajc.errors.Unavailable`: there is no server, or no answer in time, and whether the
call took effect is unknown. Times named `until` are seconds of the loop's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import msgspec

from ajc.exchange import ExecReply, ExecRequest
from ajc.instant import Instant
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Record
from ajc_bridge.decision.transition import DeadLetter
from ajc_bridge.happenings import Detail


class Lease(msgspec.Struct, eq=False):
    """One item of a queue, ours until `until` (monotonic seconds) unless renewed.

    `deliveries` is the server's count, from 1. `backlog` is how many items waited behind this one. `token` names the
    delivery to the queue. `lost` is set when the lease ran out here: no ack of any kind is sent for it any more.
    """

    queue: str
    subject_id: str
    body: bytes
    deliveries: int
    backlog: int
    token: bytes
    until: float
    received: float
    lost: bool = False


class TaskStore(Protocol):
    """The records of tasks, each with its revision."""

    def load(self, task_id: str, *, leader: bool = False) -> Awaitable[Record | None]:
        """Return the newest record known, None when there is none. `leader` asks the one copy that cannot lag."""

    def save(self, task_id: str, body: bytes, revision: int, *, ttl_ns: int | None = None) -> Awaitable[int]:
        """Store `body` if the record's revision is still `revision` (0: there is none), and return the new revision.

        `ttl_ns` lets the record vanish by itself after that time; `InvalidValue` where the store has no such thing, and
        nothing is stored then. Raises `Conflict`, `TooLarge` (known before anything is sent) and `Unavailable`.
        """

    @property
    def limit(self) -> int:
        """The most bytes that a record may have."""

    async def discard(self, task_id: str, revision: int) -> None:
        """Remove the record at `revision`. Idempotent; raises `Conflict` when it has another revision by now."""


class Items(Protocol):
    """Where the verdict on an item goes."""

    queue: str

    def ack(self, lease: Lease) -> None:
        """Let the queue forget the item, which is done with. Sent without waiting."""

    def nak(self, lease: Lease) -> None:
        """Give the item back at once, for anybody."""


class WorkQueue(Items, Protocol):
    """The items of one queue."""

    async def pull(self, want: int, wait: float, deliver: Callable[[Lease], None]) -> int:
        """Ask for up to `want` items and hand each to `deliver` as it comes; return how many came.

        Ends as soon as what was there has come; waits up to `wait` seconds for a first one (0: not at all).
        """

    async def renew(self, lease: Lease) -> None:
        """Make the lease last its full time again, from now, and set its `until`."""


class DelayQueue(Protocol):
    """Items that come back later; one per task."""

    async def schedule(self, queue: str, task_id: str, at: Instant, item: WorkItem) -> None:
        """Let `item` arrive in `queue` at that instant, in place of any schedule the task has there."""

    async def forget(self, queue: str, task_id: str) -> None:
        """Remove the task's schedule, if it has one. Idempotent."""


class DeadLetters(Protocol):
    """The tasks that ended badly; one letter per task and queue."""

    async def publish(self, letter: DeadLetter, body: bytes) -> None:
        """Store the letter, in place of an earlier one of its task. `TooLarge`: no part of it can ever be stored."""


Beaten: TypeAlias = Callable[[bytes], float | None]
"""What a beat's body is given to; returns until when the attempt has time now, None when a beat changes nothing."""


class Exchange(Protocol):
    """The way to responders."""

    @property
    def limit(self) -> int:
        """The most bytes that a request may have, headers and body together."""

    def request(
        self,
        subject: str,
        request: ExecRequest,
        until: float,
        *,
        send_by: float | None = None,
        beaten: Beaten | None = None,
    ) -> Awaitable[ExecReply | None]:
        """Send the request and wait for its reply; None when none came until then.

        It waits for a server to send it to until `send_by` at most, then raises `Unavailable`: it never left. So does
        one that the server does not let through (`NotPermitted`). With `beaten` the request names a subject of its own
        for heartbeats, and each one that comes there before the end moves `until`; what comes there later changes
        nothing.
        """


class Stranded(msgspec.Struct, frozen=True):
    """An item that its queue holds and will never deliver again. `sequence` names it to the queue.

    `revision` is its record's as the census saw it (0: there was none); None when the server itself named the item.
    """

    sequence: int
    subject_id: str
    body: bytes
    deliveries: int
    revision: int | None = None


class Census(Protocol):
    """What no delivery will bring back: items at their delivery cap, and tasks without an item."""

    async def exhausted(self, sequence: int) -> Stranded | None:
        """Return the item that the server gave up, None when it is gone."""

    async def stranded(self) -> list[Stranded]:
        """Return the items that are stranded beyond doubt; one that may still be leased is not among them."""

    async def forget(self, item: Stranded) -> None:
        """Remove the item from its queue. Idempotent."""

    async def has_item(self, task_id: str) -> bool:
        """Tell whether the queue holds an item of this task, or the delay queue one that will come."""


class RecordScan(Protocol):
    """The task store's records, read once each in the order of their last change, until it begins anew."""

    async def next(self, most: int) -> list[Record]:
        """Return up to `most` records behind those returned before; none at the end, where a later call goes on."""

    def rewind(self) -> None:
        """Begin anew: the next call reads from the store's beginning."""


class Journal(Protocol):
    """Who is told of what happens."""

    def note(self, detail: Detail) -> None:
        """Tell every sink that wants this kind of detail. Never raises, never waits."""


class AttemptSpan(Protocol):
    """One attempt as its tracer sees it; its context is what the responder's work belongs to."""

    traceparent: str
    tracestate: str

    def end(self, outcome: str, text: str) -> None:
        """Take note that it is over, with its outcome's word and text. Never raises."""


class Tracer(Protocol):
    """Who makes a span of each attempt."""

    def begin(self, task: Task, queue: str) -> AttemptSpan | None:
        """Begin a span below the producer's; None when there is nothing to trace. Never raises, never waits."""


class Clock(Protocol):
    """The time of day, as a port so that the pipeline has no hidden clock."""

    def now(self) -> Instant:
        """Return the instant, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards, for leases and time-outs."""


class Ports(msgspec.Struct, frozen=True):
    """All of the world that the pipeline sees, handed to each stage."""

    store: TaskStore
    delay: DelayQueue
    letters: DeadLetters
    exchange: Exchange
    journal: Journal
    clock: Clock
    tracer: Tracer | None = None
