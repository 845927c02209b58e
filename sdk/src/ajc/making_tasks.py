"""From what people write to a `Task`: deadlines as times from now, payloads as any JSON value."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from ajc.errors import InvalidValue
from ajc.instant import Instant
from ajc.queue import nanoseconds
from ajc.subjects import check_id, check_queue, check_type
from ajc.task import Task
from ajc.trace_context import producers_context

DEFAULT_MAX_TRIES: Final = 10

Deadline = timedelta | datetime | Instant | float
"""A time from now (`timedelta`, or seconds), or an instant (an aware `datetime`, an `Instant`)."""


def new_task(
    type: str,  # noqa: A002  (the word of the wire)
    payload: Any = None,
    *,
    queue: str = "",
    id: str | None = None,  # noqa: A002  (likewise)
    deadline: Deadline | None = None,
    max_tries: int = DEFAULT_MAX_TRIES,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Task:
    """Make a task that is not stored yet, for `enqueue_many`.

    `payload` is any JSON value, or bytes as they are. `id` names the task (`[A-Za-z0-9_:-]{1,128}`), a KSUID by
    default. The task expires at its `deadline`. It is tried `max_tries` times at most, 0 leaves that to its queue.
    Without a `queue` it goes where `enqueue_many` says. `traceparent` and `tracestate` (W3C Trace Context) reach its
    handler; by default OpenTelemetry's current ones, where it is in use, and none with `traceparent=""`.

    Raises `InvalidName` and `InvalidValue`.
    """
    check_type(type)
    if queue:
        check_queue(queue)
    if not _is_count(max_tries):
        raise InvalidValue("max_tries", max_tries, "is a whole number, 0 or more")
    now = Instant.now()
    trace = producers_context(traceparent, tracestate)
    task = Task.create(
        type,
        payload,
        id=None if id is None else check_id(id),
        queue=queue,
        deadline=None if deadline is None else deadline_instant(deadline, now),
        max_tries=max_tries,
        created=now,
    )
    return task.replace(traceparent=trace[0], tracestate=trace[1]) if trace[0] else task


def deadline_instant(deadline: Deadline, now: Instant) -> Instant:
    """Return the instant of a deadline; a time from now is counted from `now`. Raises `InvalidValue`."""
    if isinstance(deadline, Instant):
        return deadline
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise InvalidValue("deadline", deadline, "has no time zone")
        return Instant.from_datetime(deadline)
    if isinstance(deadline, bool) or not isinstance(deadline, (timedelta, int, float)):
        raise InvalidValue("deadline", deadline, "is a timedelta, seconds, or an aware datetime")
    try:
        later = nanoseconds(deadline)
    except (OverflowError, ValueError):
        later = None
    if later is None or later <= 0:
        raise InvalidValue("deadline", deadline, "is a time from now, above 0")
    return now.plus(later)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
