"""What can happen: one frozen detail per kind, noted by the pipeline and the store, taken up by the journal's sinks.

A detail states facts; what becomes of it (a log line, a metric, an event on the wire) is the sink's business. They are
parted by whom they happen to: a task, a queue, the process.
"""

from __future__ import annotations

from ajc_bridge.happenings.detail import Detail
from ajc_bridge.happenings.process import (
    ConfigApplied,
    ConfigRefused,
    Connected,
    ConnectFailed,
    ConnectionClosed,
    Disconnected,
    Drained,
    Draining,
    FastPathUnavailable,
    HttpListening,
    NotPrepared,
    Reconnected,
    Started,
    Stopped,
    Trouble,
)
from ajc_bridge.happenings.queues import (
    Pulled,
    PullFailed,
    QueueBound,
    QueueConfigured,
    QueueLost,
    RemainsCleared,
    SlotsChanged,
)
from ajc_bridge.happenings.tasks import (
    AttemptEnded,
    AttemptStarted,
    DeadLettered,
    ItemDropped,
    ItemWaits,
    LeaseLost,
    ReplyIgnored,
    Rescued,
    RetryAfterIgnored,
    RevisionConflict,
    SaveFailed,
    TaskParked,
    TaskSaved,
    TaskSettled,
    UnknownState,
)

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "ConfigApplied",
    "ConfigRefused",
    "ConnectFailed",
    "Connected",
    "ConnectionClosed",
    "DeadLettered",
    "Detail",
    "Disconnected",
    "Drained",
    "Draining",
    "FastPathUnavailable",
    "HttpListening",
    "ItemDropped",
    "ItemWaits",
    "LeaseLost",
    "NotPrepared",
    "PullFailed",
    "Pulled",
    "QueueBound",
    "QueueConfigured",
    "QueueLost",
    "Reconnected",
    "RemainsCleared",
    "ReplyIgnored",
    "Rescued",
    "RetryAfterIgnored",
    "RevisionConflict",
    "SaveFailed",
    "SlotsChanged",
    "Started",
    "Stopped",
    "TaskParked",
    "TaskSaved",
    "TaskSettled",
    "Trouble",
    "UnknownState",
]
