"""A queue as people write it (`Queue`) and as the server has it (`QueueInfo`).

JetStream's own configuration is the definition of a queue: its stream and the consumer `WORKERS`. What JetStream has
no place for is metadata of the stream, with keys that start with `ajc.`; `ajc.stream_config` writes it,
`ajc.stored_queue` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec

from ajc.duration import LONGEST, format_duration
from ajc.errors import InvalidValue
from ajc.subjects import check_queue

NANOSECONDS: Final = 1_000_000_000
DEFAULT_MAX_RUN_TIME: Final = 3600 * NANOSECONDS
DEFAULT_LEASE: Final = 30 * NANOSECONDS
DEFAULT_MAX_CONCURRENT: Final = 100
DEFAULT_PRIORITY: Final = 10
DEFAULT_BACKOFF: Final = "default"
MAX_PRIORITY: Final = 100

MIN_DURATION: Final = NANOSECONDS // 10
"""The shortest lease, run time and age. JetStream takes no shorter age, and a lease that is over before its bridge can
renew it is lost again and again: the task runs many times at once, and each loss costs it a try.
"""

_MAX_INT: Final = 2**63 - 1
_MAX_BACKOFF_NAME: Final = 128
_MAX_REPLICAS: Final = 5

Duration = timedelta | float
"""A `timedelta`, or seconds."""


class Queue(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a queue shall be like. None (not given) means: the default when it is made, else what is there already.

    Durations are `timedelta`s or seconds, 100 ms at least, and become `timedelta`s.

    - `max_tries`: no task of the queue is tried more often, 0 for no limit (default 0).
    - `max_run_time`: how long one attempt may last (default 1 h).
    - `lease`: after how long a dead bridge's tasks run elsewhere (default 30 s, or the run time when that is
      shorter). A queue that workers of the Go implementation share needs the run time here.
    - `max_concurrent`: attempts under way at a time, -1 for no limit (default 100).
    - `max_entries`: items at most, 0 for no limit (default 0); `when_full` says whether a new item is then refused
      (`"reject"`, the default) or the oldest one goes (`"discard_old"`).
    - `max_age`: items older than this go, 0 for never (default 0).
    - `priority`: the queue's share of a bridge's slots, 1 to 100 (default 10).
    - `backoff`: the name of the policy for retries (default `"default"`).
    - `storage` and `replicas` are for the making only (default `"file"` and 1).

    Raises `InvalidName` and `InvalidValue`.
    """

    name: str
    max_tries: int | None = None
    max_run_time: Duration | None = None
    lease: Duration | None = None
    max_concurrent: int | None = None
    max_entries: int | None = None
    when_full: Literal["reject", "discard_old"] | None = None
    max_age: Duration | None = None
    priority: int | None = None
    backoff: str | None = None
    paused: bool | None = None
    storage: Literal["file", "memory"] | None = None
    replicas: int | None = None

    def __post_init__(self) -> None:
        check_queue(self.name)
        _check_int("max_tries", self.max_tries, 0, 2**31 - 1)
        _check_int("max_entries", self.max_entries, 0, _MAX_INT)
        _check_int("priority", self.priority, 1, MAX_PRIORITY)
        _check_int("replicas", self.replicas, 1, _MAX_REPLICAS)
        _check_int("max_concurrent", self.max_concurrent, -1, 2**31 - 1)
        if self.max_concurrent == 0:
            raise InvalidValue("max_concurrent", 0, "at least 1, or -1 for no limit")
        for field in ("max_run_time", "lease", "max_age"):
            value = getattr(self, field)
            if value is not None:
                msgspec.structs.force_setattr(self, field, _duration(field, value, zero=field == "max_age"))
        if self.max_run_time is not None and self.lease is not None and self.lease_ns > self.max_run_time_ns:  # type: ignore[operator]  # both are given
            raise InvalidValue("lease", self.lease, "not longer than max_run_time")
        if self.when_full not in (None, "reject", "discard_old"):
            raise InvalidValue("when_full", self.when_full, 'is "reject" or "discard_old"')
        if self.storage not in (None, "file", "memory"):
            raise InvalidValue("storage", self.storage, 'is "file" or "memory"')
        if self.backoff is not None and not (0 < len(self.backoff) <= _MAX_BACKOFF_NAME and self.backoff.isprintable()):
            raise InvalidValue("backoff", self.backoff, "is the name of a policy")

    @property
    def max_run_time_ns(self) -> int | None:
        """`max_run_time` in nanoseconds."""
        return nanoseconds(self.max_run_time)

    @property
    def lease_ns(self) -> int | None:
        """`lease` in nanoseconds."""
        return nanoseconds(self.lease)

    @property
    def max_age_ns(self) -> int | None:
        """`max_age` in nanoseconds."""
        return nanoseconds(self.max_age)


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as the server has it now.

    Times are nanoseconds; `max_tries`, `max_entries` and `max_age_ns` are 0 for no limit.

    `lease_ns` is the consumer's `ack_wait`. `renews` is whether the run time is a setting of its own: else (a queue
    that the Go implementation made) it is the lease, and a lease is never renewed beyond it. `max_deliver` above 0
    means that the server stops delivering an item after so many deliveries: such an item is stranded. `differences`
    has one line for each setting that `ensure_queue` was asked for and that the queue does not have.
    """

    name: str
    max_tries: int
    max_run_time_ns: int
    lease_ns: int
    renews: bool
    max_concurrent: int
    max_entries: int
    when_full: Literal["reject", "discard_old"]
    max_age_ns: int
    priority: int
    backoff: str
    paused: bool
    storage: str
    replicas: int
    max_deliver: int
    delayed_items: bool
    messages: int
    pending: int
    ack_pending: int
    redelivered: int
    bytes: int
    differences: tuple[str, ...] = ()
    stream_config: Mapping[str, Any] = msgspec.field(default_factory=dict)
    consumer_config: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def stranded(self) -> int:
        """Items that the server holds and will never deliver again (they reached `max_deliver`)."""
        return max(0, self.messages - self.pending - self.ack_pending)

    @property
    def max_run_time(self) -> timedelta:
        """The longest time of one attempt."""
        return timedelta(microseconds=self.max_run_time_ns // 1000)

    @property
    def lease(self) -> timedelta:
        """After how long without a sign of life an attempt's item is delivered again."""
        return timedelta(microseconds=self.lease_ns // 1000)


def nanoseconds(duration: Duration | None) -> int | None:
    """Convert a `timedelta` or seconds to nanoseconds; None stays None."""
    if duration is None:
        return None
    if isinstance(duration, timedelta):
        return ((duration.days * 86_400 + duration.seconds) * 1_000_000 + duration.microseconds) * 1000
    return round(duration * NANOSECONDS)


def _duration(field: str, value: object, *, zero: bool) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, (timedelta, int, float)):
        raise InvalidValue(field, value, "must be a timedelta or seconds")
    try:
        duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise InvalidValue(field, value, "must be a timedelta or seconds, 292 years at most") from None
    length = nanoseconds(duration) or 0
    if length > LONGEST:
        raise InvalidValue(field, duration, "must not be longer than 292 years")
    if length < MIN_DURATION and not (zero and length == 0):
        shortest = format_duration(MIN_DURATION)
        raise InvalidValue(field, duration, f"must be {'0s or ' if zero else ''}at least {shortest}")
    return duration


def _check_int(field: str, value: object, lowest: int, highest: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise InvalidValue(field, value, f"is a whole number from {lowest} to {highest}")
