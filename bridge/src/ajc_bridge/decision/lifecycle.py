"""The states of a task, the steps between them, and nothing else that may happen.

`LEGAL` is the one table: `apply` refuses what it does not hold, and the diagram in docs/lifecycle.md is drawn from it.
Each change is a value that knows which fields it writes; a change is applied by one copy of the task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from ajc.cancel_by_hand import CANCELLED_FROM
from ajc.errors import AjcError
from ajc.instant import Instant
from ajc.retry_by_hand import RETRIED_FROM
from ajc.task import Result, Task, TaskState

UNKNOWN: Final[str] = TaskState.UNKNOWN.value
NEW: Final[str] = TaskState.NEW.value
ACTIVE: Final[str] = TaskState.ACTIVE.value
RETRY: Final[str] = TaskState.RETRY.value
EXPIRED: Final[str] = TaskState.EXPIRED.value
TERMINATED: Final[str] = TaskState.TERMINATED.value
COMPLETE: Final[str] = TaskState.COMPLETE.value
QUEUE_ERROR: Final[str] = TaskState.QUEUE_ERROR.value
BLOCKED: Final[str] = TaskState.BLOCKED.value
UNREACHABLE: Final[str] = TaskState.UNREACHABLE.value

FINAL: Final = frozenset({EXPIRED, TERMINATED, COMPLETE, QUEUE_ERROR, UNREACHABLE})
"""Left by an explicit retry alone."""
WAITING: Final = frozenset({UNKNOWN, NEW, RETRY})
"""Not begun, and ready to be once an item comes and the time is right."""
KNOWN: Final = FINAL | WAITING | {ACTIVE, BLOCKED}


MAX_TRIES: Final = 2**63 - 1
"""What a record can hold: Go refuses one with more."""


class IllegalTransition(AjcError):  # noqa: N818 - named like the rest of the tree
    """A step that the table does not hold: a fault of this program, never of its input."""

    def __init__(self, task_id: str, step: str, before: str, after: str) -> None:
        super().__init__(f"task {task_id}: no step {step!r} leads from {before!r} to {after!r}")


class Step(StrEnum):
    """The names of the table's rows, as the diagram shows them."""

    CREATE = "create"
    RUN = "run"
    COMPLETE = "complete"
    RETRY = "retry"
    PUT_BACK = "put back"
    EXPIRE = "expire"
    TERMINATE = "terminate"
    CANCEL = "cancel"
    REFUSE = "refuse"
    RETRY_BY_ID = "retry by id"


def _each(befores: frozenset[str], *afters: str) -> Mapping[str, frozenset[str]]:
    return MappingProxyType({before: frozenset(afters) for before in befores})


_UNFINISHED: Final = WAITING | {ACTIVE, BLOCKED}

LEGAL: Final[Mapping[Step, Mapping[str, frozenset[str]]]] = MappingProxyType(
    {
        Step.RUN: _each(WAITING | {ACTIVE}, ACTIVE),  # active: an abandoned attempt's task runs again
        Step.COMPLETE: _each(frozenset({ACTIVE}), COMPLETE),
        Step.RETRY: _each(frozenset({ACTIVE}), RETRY),
        Step.PUT_BACK: _each(frozenset({ACTIVE}), UNKNOWN, NEW, RETRY),
        Step.EXPIRE: _each(_UNFINISHED, EXPIRED),
        Step.TERMINATE: _each(_UNFINISHED, TERMINATED),
        Step.CANCEL: _each(CANCELLED_FROM, TERMINATED),  # taken by the SDK: ajc.cancel_by_hand
        Step.REFUSE: _each(WAITING | {BLOCKED}, QUEUE_ERROR),  # the queue took no item, or let it go
        Step.RETRY_BY_ID: _each(RETRIED_FROM, RETRY),  # taken by the SDK: ajc.retry_by_hand
    },
)
"""step -> state before -> states after."""

CREATED: Final = frozenset({NEW, BLOCKED})
"""How a task begins."""

_NOWHERE: Final[frozenset[str]] = frozenset()


class Change(Struct, frozen=True):
    """One step of a task, with what it writes."""

    step: ClassVar[Step]

    @abstractmethod
    def on(self, task: Task, now: Instant) -> Task:
        """Give the task after it. `apply` is the way in: it asks the table."""


class Start(Change, frozen=True):
    """The active save: counts the try before the request goes out."""

    step: ClassVar[Step] = Step.RUN

    def on(self, task: Task, now: Instant) -> Task:
        """Make it active from now; what the last attempt left behind goes."""
        tries = task.tries + 1 if task.tries < MAX_TRIES else MAX_TRIES
        return replace(task, state=ACTIVE, tries=tries, tried=now, last_err="", next_try_at=None)


class Complete(Change, frozen=True):
    """A handler's result, as bytes."""

    step: ClassVar[Step] = Step.COMPLETE
    body: bytes

    def on(self, task: Task, now: Instant) -> Task:
        """Complete it now, with the result as a base64 JSON string."""
        return replace(task, state=COMPLETE, result=Result.of_bytes(self.body, now), last_err="", next_try_at=None)


class Retry(Change, frozen=True):
    """A failed attempt with tries left."""

    step: ClassVar[Step] = Step.RETRY
    text: str
    at: Instant

    def on(self, task: Task, now: Instant) -> Task:  # noqa: ARG002  a retry has its own instant
        """Let it wait for `at`."""
        return replace(task, state=RETRY, last_err=self.text, next_try_at=self.at)


class PutBack(Change, frozen=True):
    """An attempt that did not count: the task is what it was before, or `retry` when the one before was abandoned."""

    step: ClassVar[Step] = Step.PUT_BACK
    before: Task
    text: str
    at: Instant | None

    def on(self, task: Task, now: Instant) -> Task:  # noqa: ARG002  nothing happened now
        """Take back the try; keep the last counted attempt's instant, and why it was put back."""
        state = self.before.state
        return replace(
            task,
            state=RETRY if state == ACTIVE else state,
            tries=self.before.tries,
            tried=self.before.tried,
            last_err=self.text,
            next_try_at=self.at,
        )


class Expire(Change, frozen=True):
    """Too late, or too often."""

    step: ClassVar[Step] = Step.EXPIRE
    text: str
    reason: str

    def on(self, task: Task, now: Instant) -> Task:  # noqa: ARG002  the revision has the time
        """End it; `dead_letter` keeps the reason for a settlement that is played again."""
        return replace(task, state=EXPIRED, last_err=self.text, next_try_at=None, dead_letter=self.reason)


class Terminate(Change, frozen=True):
    """Stopped for good: by its handler, or because it cannot be run."""

    step: ClassVar[Step] = Step.TERMINATE
    text: str
    reason: str

    def on(self, task: Task, now: Instant) -> Task:  # noqa: ARG002  the revision has the time
        """End it; `dead_letter` keeps the reason for a settlement that is played again."""
        return replace(task, state=TERMINATED, last_err=self.text, next_try_at=None, dead_letter=self.reason)


class Refuse(Change, frozen=True):
    """Stored, but its queue has no item for it."""

    step: ClassVar[Step] = Step.REFUSE
    text: str

    def on(self, task: Task, now: Instant) -> Task:  # noqa: ARG002  the revision has the time
        """End it as `queue_error`, with the reason why."""
        return replace(task, state=QUEUE_ERROR, last_err=self.text, next_try_at=None, dead_letter=QUEUE_ERROR)


def apply(task: Task, change: Change, now: Instant) -> Task:
    """Give the task after the change; raises IllegalTransition for a step that the table does not hold."""
    after = change.on(task, now)
    if after.state not in LEGAL[change.step].get(task.state, _NOWHERE):
        raise IllegalTransition(task.id, str(change.step), task.state, after.state)
    return after
