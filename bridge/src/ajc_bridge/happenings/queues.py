"""What happens to a queue, and to the slots that all queues share."""

from __future__ import annotations

from typing import ClassVar

from ajc_bridge.happenings.detail import Detail


class Pulled(Detail, frozen=True, gc=False):
    """A pull request for up to `asked` items was sent."""

    action: ClassVar[str] = "queue.pulled"
    queue: str
    asked: int


class PullFailed(Detail, frozen=True, gc=False):
    """A pull request was refused, or lost."""

    action: ClassVar[str] = "queue.pull_failed"
    queue: str
    text: str


class SlotsChanged(Detail, frozen=True, gc=False):
    """How the process's slots are used now: `busy` hold an attempt, `pulling` wait for an item, the rest are free."""

    action: ClassVar[str] = "slots.changed"
    total: int
    busy: int
    pulling: int


class QueueBound(Detail, frozen=True, gc=False):
    """A queue is served from now on. Durations in nanoseconds; `max_tries` and `max_concurrent` as on the server."""

    action: ClassVar[str] = "queue.bound"
    queue: str
    created: bool
    priority: int
    max_concurrent: int
    max_tries: int
    lease_ns: int
    max_run_time_ns: int


class QueueLost(Detail, frozen=True, gc=False):
    """A queue is served no longer: its stream or consumer is gone, or cannot be reached."""

    action: ClassVar[str] = "queue.lost"
    queue: str
    text: str


class QueueConfigured(Detail, frozen=True, gc=False):
    """A field of a queue on the server was changed to what the configuration says."""

    action: ClassVar[str] = "queue.configured"
    queue: str
    field: str
    before: str
    after: str


class RemainsCleared(Detail, frozen=True, gc=False):
    """Messages that a killed server had brought back were removed again; they would never have been delivered."""

    action: ClassVar[str] = "queue.remains_cleared"
    queue: str
    messages: int


class DueItemHeldUp(Detail, frozen=True, gc=False):
    """An item whose time has come does not come into its queue, which others keep full; since `seen_ns` at least."""

    action: ClassVar[str] = "queue.due_item_held_up"
    queue: str
    task_id: str
    seen_ns: int


class DueItemPut(Detail, frozen=True, gc=False):
    """The bridge itself has put an item that was held up into its queue."""

    action: ClassVar[str] = "queue.due_item_put"
    queue: str
    task_id: str


class LeaseShortened(Detail, frozen=True, gc=False):
    """Somebody else has shortened a queue's lease on the server; what ran then may have been delivered elsewhere."""

    action: ClassVar[str] = "queue.lease_shortened"
    queue: str
    before_ns: int
    after_ns: int
