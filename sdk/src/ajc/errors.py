"""Every error of this package, in one tree.

    AjcError
     ├─ InvalidName            a task type, id, queue or header name outside its grammar
     ├─ InvalidValue           an argument that cannot be used, or cannot be written down
     ├─ TooLarge               a message that the server or the store would refuse
     ├─ NotFound               no such task, queue, stream or consumer
     ├─ AlreadyExists          a task or queue of that name is there already
     ├─ Conflict               somebody else changed it first, or its state forbids this
     ├─ QueueFull              the queue is at its limit and rejects new entries
     ├─ SignatureError         a task that is unsigned or wrongly signed
     ├─ StoreError             any other refusal by JetStream, with its code
     ├─ Unavailable            no answer: whether it happened is unknown (but for NotPermitted), so read back
     │   ├─ Closed             the connection is closed for good
     │   ├─ RequestTimeout     no reply in time
     │   ├─ NoResponders       nobody listens on that subject
     │   └─ NotPermitted       the server does not let this user publish there: it did not happen
     ├─ Malformed              bytes or text that cannot be read
     │   ├─ MalformedTask
     │   ├─ MalformedItem
     │   ├─ MalformedEvent
     │   │   └─ UnknownEvent   well formed, of a type that this version does not know
     │   ├─ MalformedRequest
     │   ├─ MalformedHeaders
     │   ├─ MalformedInstant
     │   └─ MalformedDuration
     ├─ TaskFailed             result(): the task ended without one
     ├─ TaskTimeout            result(): the task has not ended yet
     └─ HandlerSignal          raised by a handler to answer something else than a result
         ├─ Terminate          never try this task again
         ├─ Retry              failed: try again, by the queue's policy or after a time
         └─ Busy               not now: does not count as a try

Each error carries what it is about as attributes; its text says what to do where that is known.
"""
# ruff: noqa: N818 - the tree is what people catch: `except ajc.NotFound` reads better than `except ajc.NotFoundError`

from __future__ import annotations

from datetime import timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ajc.task import Task

SHOWN_CHARACTERS = 80  # of a refused value in a message: enough to recognise it, never a whole payload


def _shown(value: object) -> str:
    try:
        text = value.__qualname__ if isinstance(value, FunctionType) else _written(value)
    except Exception:  # noqa: BLE001 - a value that cannot even be shown must not hide what is wrong with it
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _written(value: object) -> str:
    if isinstance(value, timedelta):  # as everywhere else: 1h30m
        from ajc.duration import format_duration  # noqa: PLC0415  (it imports this module)

        return format_duration(value // timedelta(microseconds=1) * 1000)
    return repr(value)


def _rebuilt(kind: type[AjcError], args: tuple[Any, ...], fields: dict[str, Any]) -> AjcError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class AjcError(Exception):
    """What every error of this package is."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling: the constructors take fields, not the message."""
        return _rebuilt, (type(self), self.args, self.__dict__)


class InvalidName(AjcError):
    """A name outside its grammar: `field` says what it names, `value` is the name as given."""

    def __init__(self, field: str, value: object, allowed: str = "") -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field} {_shown(value)} is not a legal name" + (f": use {allowed}" if allowed else ""))


class InvalidValue(AjcError):
    """An argument that cannot be used: `field`, `value`, and the `reason`, which says what would be accepted."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field} {_shown(value)}: {reason}")


class TooLarge(AjcError):
    """`what` has `size` bytes where `limit` are allowed."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(f"{what} of {size} bytes exceeds {limit}: pass large data by reference, or raise max_payload")


class NotFound(AjcError):
    """There is no `what` of that `name`; `code` is JetStream's where it said so (10037, 10059, 10014), else 0."""

    def __init__(self, what: str, name: str = "", *, code: int = 0) -> None:
        self.what = what
        self.name = name
        self.code = code
        super().__init__(f"{what} {name}".rstrip() + " does not exist")


class AlreadyExists(AjcError):
    """There is a `what` of that `name` already; `mend` says what to do."""

    def __init__(self, what: str, name: str, mend: str = "load it, or choose another name") -> None:
        self.what = what
        self.name = name
        super().__init__(f"{what} {name} exists already: {mend}")


class Conflict(AjcError):
    """`what` was changed by somebody else, or is in a state that forbids this: load it again, then decide again.

    `code` is JetStream's (10071: the revision was not the last), else 0; `task` is what was found, when that is known.
    """

    def __init__(self, what: str, reason: str = "", *, code: int = 0, task: Task | None = None) -> None:
        self.what = what
        self.reason = reason
        self.code = code
        self.task = task
        super().__init__(f"{what}: {reason or 'changed by somebody else in the meantime; load it again'}")


class QueueFull(AjcError):
    """The queue holds as many entries as it may, and rejects more (JetStream code 10077)."""

    def __init__(self, queue: str, *, code: int = 10077) -> None:
        self.queue = queue
        self.code = code
        super().__init__(f"queue {queue} is full: try later, enqueue with wait=, or raise its max_entries")


class SignatureError(AjcError):
    """Task `task_id` is unsigned where a signature is required, or its signature does not fit it."""

    def __init__(self, task_id: str, reason: str) -> None:
        self.task_id = task_id
        self.reason = reason
        super().__init__(f"task {task_id}: {reason}")


class StoreError(AjcError):
    """JetStream refused: `code` is its err_code (0 when it gave none), `text` its description."""

    def __init__(self, code: int, text: str, *, subject: str = "") -> None:
        self.code = code
        self.text = text
        self.subject = subject
        super().__init__(f"{text} ({code})" + (f" on {subject}" if subject else ""))


class Unavailable(AjcError):
    """No connection, or no answer. Whether a write happened is unknown unless the kind says so: read back first."""


class Closed(Unavailable):
    """The connection is closed for good: make a new one."""

    def __init__(self, text: str = "the connection is closed: connect again") -> None:
        super().__init__(text)


class RequestTimeout(Unavailable):
    """No reply on `subject` within `seconds`."""

    def __init__(self, subject: str, seconds: float) -> None:
        self.subject = subject
        self.seconds = seconds
        super().__init__(f"no reply on {subject} within {seconds:g} s: what was asked may have been done all the same")


class NoResponders(Unavailable):
    """Nobody subscribes to `subject`: for `$JS.API…` JetStream is off, else the service is not running."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        hint = "is JetStream enabled there?" if subject.startswith("$JS.") else "is the service running?"
        super().__init__(f"nobody listens on {subject}: {hint}")


class NotPermitted(Unavailable):
    """The server does not let this user publish on `subject`: it did not happen, and repeating it does not help."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"no permission to publish on {subject}: the server does not allow it to this user")


class Malformed(AjcError):
    """Something that cannot be read: `field` is the place ("" for all of it), `reason` what is wrong there."""

    what = "value"

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"malformed {self.what}: {field}: {reason}" if field else f"malformed {self.what}: {reason}")


class MalformedTask(Malformed):
    """A task record that is none."""

    what = "task"


class MalformedItem(Malformed):
    """A queue entry that names no task."""

    what = "item"


class MalformedEvent(Malformed):
    """An event that cannot be read."""

    what = "event"


class UnknownEvent(MalformedEvent):
    """An event of a type that this version does not know: a watcher may skip it."""


class MalformedRequest(Malformed):
    """An exec request that a responder cannot work with."""

    what = "request"


class MalformedHeaders(Malformed):
    """A header block that is none."""

    what = "headers"


class MalformedInstant(Malformed):
    """A text that is no RFC 3339 time with an offset."""

    what = "time"


class MalformedDuration(Malformed):
    """A text that is no duration."""

    what = "duration"


class TaskFailed(AjcError):
    """The task ended without a result: `task` is its final record, `task.last_err` the reason."""

    def __init__(self, task: Task) -> None:
        self.task = task
        reason = f": {task.last_err}" if task.last_err else ""
        tries = "1 try" if task.tries == 1 else f"{task.tries} tries"
        super().__init__(f"task {task.id} is {task.state} after {tries}{reason}")


class TaskTimeout(AjcError):
    """The task has not ended within `seconds`; it goes on all the same."""

    def __init__(self, task_id: str, seconds: float) -> None:
        self.task_id = task_id
        self.seconds = seconds
        super().__init__(f"task {task_id} has not ended within {seconds:g} s: it goes on, ask again later")


class HandlerSignal(AjcError):
    """What a handler raises to answer something else than a result; `text` is what gets stored."""

    def __init__(self, text: str = "", after: timedelta | float | None = None) -> None:
        self.text = text
        self.after = after
        self.after_ms = _milliseconds(after)
        super().__init__(text)


class Terminate(HandlerSignal):
    """Never try this task again: it ends as `terminated`, with a dead letter."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)


class Retry(HandlerSignal):
    """This try failed. Try again after `after` (a timedelta or seconds), or by the queue's policy when that is None."""

    def __init__(self, text: str = "retry", after: timedelta | float | None = None) -> None:
        super().__init__(text, after)


class Busy(HandlerSignal):
    """Not now: the try does not count, another responder or a later moment (after `after`) gets it."""


def _milliseconds(after: timedelta | float | None) -> int | None:
    if after is None:
        return None
    seconds = after.total_seconds() if isinstance(after, timedelta) else float(after)
    if not 0 <= seconds < float("inf"):
        raise InvalidValue("after", after, "use a timedelta or seconds, 0 or more")
    return round(seconds * 1000)
