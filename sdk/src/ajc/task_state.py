"""The states of a task."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """The states this version knows; a stored task may carry another word, from a newer writer."""

    UNKNOWN = ""
    NEW = "new"
    ACTIVE = "active"
    RETRY = "retry"
    EXPIRED = "expired"
    TERMINATED = "terminated"
    COMPLETE = "complete"
    QUEUE_ERROR = "queue_error"
    BLOCKED = "blocked"
    UNREACHABLE = "unreachable"


FINAL_STATES: frozenset[str] = frozenset(
    {
        TaskState.EXPIRED,
        TaskState.TERMINATED,
        TaskState.COMPLETE,
        TaskState.QUEUE_ERROR,
        TaskState.UNREACHABLE,
    }
)
