"""What can happen: one frozen detail per kind, noted by the pipeline and the store, taken up by the journal's sinks.

A detail states facts, in the units its fields name; what becomes of it (a log line, a metric, an event on the wire) is
the sink's business. `action` is the stable key of the kind: it is in every log line and never changes its meaning.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ajc.task import Task


class Detail(msgspec.Struct, frozen=True, gc=False):
    """The root of all details."""

    action: ClassVar[str] = ""


# --- one task -------------------------------------------------------------------------------------------------------


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


class RemainsCleared(Detail, frozen=True, gc=False):
    """Messages that a killed server had brought back were removed again; they would never have been delivered."""

    action: ClassVar[str] = "queue.remains_cleared"
    queue: str
    messages: int


class UnknownState(Detail, frozen=True, gc=False):
    """A task in a state that this version does not know; logged once per word."""

    action: ClassVar[str] = "task.unknown_state"
    queue: str
    task_id: str
    state: str


# --- queues and slots -----------------------------------------------------------------------------------------------


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


# --- the process ----------------------------------------------------------------------------------------------------


class Started(Detail, frozen=True, gc=False):
    """The process runs; it may not be connected yet."""

    action: ClassVar[str] = "bridge.started"
    name: str
    version: str
    concurrency: int


class Connected(Detail, frozen=True, gc=False):
    """The first connection stands. `server` is its URL without credentials."""

    action: ClassVar[str] = "nats.connected"
    server: str
    version: str


class ConnectFailed(Detail, frozen=True, gc=False):
    """There is no connection, and an attempt to make one failed; the next one follows in half a second."""

    action: ClassVar[str] = "nats.connect_failed"
    text: str


class Disconnected(Detail, frozen=True, gc=False):
    """The connection was lost; it is being sought again."""

    action: ClassVar[str] = "nats.disconnected"
    text: str


class Reconnected(Detail, frozen=True, gc=False):
    """The connection stands again."""

    action: ClassVar[str] = "nats.reconnected"
    server: str


class ConnectionClosed(Detail, frozen=True, gc=False):
    """The connection is closed for good; the process ends with 5."""

    action: ClassVar[str] = "nats.closed"
    text: str


class FastPathUnavailable(Detail, frozen=True, gc=False):
    """The fast client does not fit this nats-py: its public interface is used instead."""

    action: ClassVar[str] = "nats.fast_path_unavailable"
    reason: str


class ConfigApplied(Detail, frozen=True, gc=False):
    """The configuration was read again: the paths of the keys that took effect, and of those that need a restart."""

    action: ClassVar[str] = "config.applied"
    changed: tuple[str, ...]
    refused: tuple[str, ...]


class ConfigRefused(Detail, frozen=True, gc=False):
    """The configuration was read again and is wrong: the old one stays. One line a fault."""

    action: ClassVar[str] = "config.refused"
    lines: tuple[str, ...]


class HttpListening(Detail, frozen=True, gc=False):
    """Probes and metrics answer at this URL."""

    action: ClassVar[str] = "http.listening"
    url: str


class Draining(Detail, frozen=True, gc=False):
    """No further item is taken; what runs may end within the limit."""

    action: ClassVar[str] = "bridge.draining"
    running: int
    limit_ns: int


class Drained(Detail, frozen=True, gc=False):
    """Draining is over; `left` attempts were interrupted and put back uncounted."""

    action: ClassVar[str] = "bridge.drained"
    left: int


class Stopped(Detail, frozen=True, gc=False):
    """The process ends with this exit code."""

    action: ClassVar[str] = "bridge.stopped"
    code: int


class Trouble(Detail, frozen=True, gc=False):
    """Something failed that should not have, and the daemon goes on. `where` names the piece, `text` the error."""

    action: ClassVar[str] = "bridge.trouble"
    where: str
    text: str
