"""Lifecycle events: core NATS messages, published after what they tell of is saved, stored nowhere."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Final, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ajc import ksuid, record
from ajc.errors import MalformedEvent, MalformedInstant, UnknownEvent
from ajc.instant import GO_ZERO, Instant
from ajc.progress import TaskProgressed, decode_progress
from ajc.task import Task

_SECOND = 1_000_000_000
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_Int64 = Annotated[int, Meta(ge=_INT64_MIN, le=_INT64_MAX)]


class _Read(Struct):
    type: str | None = None
    event_id: str | None = None
    timestamp: str | None = None
    task_id: str | None = None
    state: str | None = None
    tries: _Int64 | None = None
    queue: str | None = None
    task_type: str | None = None
    last_error: str | None = None
    task_age: _Int64 | None = None
    name: str | None = None
    component: str | None = None


class _WrittenState(Struct):
    event_id: str
    type: str
    timestamp: str
    task_id: str
    state: str
    tries: int
    queue: str | UnsetType
    task_type: str
    last_error: str | UnsetType
    task_age: int | UnsetType


class _WrittenElection(Struct):
    event_id: str
    type: str
    timestamp: str
    name: str
    component: str


_read = msgspec.json.Decoder(_Read)
_encode = msgspec.json.Encoder().encode
_TASK_STATE: Final = "io.choria.asyncjobs.v1.task_state"


class TaskStateChanged(Struct, frozen=True, kw_only=True):
    """A task was saved in this state; `task_age` in nanoseconds: negative when clocks disagree, None when unknown."""

    TYPE: ClassVar[str] = _TASK_STATE

    event_id: str
    timestamp: Instant  # whole seconds
    task_id: str
    state: str
    tries: int = 0
    queue: str = ""
    task_type: str = ""
    last_error: str = ""
    task_age: int | None = None

    @classmethod
    def of(cls, task: Task, now: Instant, queue: str | None = None) -> Self:
        """Tell of this save; `queue` is the item's queue where the task's own field says something else."""
        created = task.created
        return cls(
            event_id=ksuid.new(now // _SECOND),
            timestamp=_second(now),
            task_id=task.id,
            state=task.state,
            tries=task.tries,
            queue=task.queue if queue is None else queue,
            task_type=task.type,
            last_error=task.last_err,
            task_age=None if created == GO_ZERO else max(_INT64_MIN, min(now - created, _INT64_MAX)),
        )

    def encode(self) -> bytes:
        """As Go writes it: an empty queue or last_error and an unknown age are left out."""
        return _bytes(
            _WrittenState(
                self.event_id,
                self.TYPE,
                _whole_seconds(self.timestamp),
                self.task_id,
                self.state,
                self.tries,
                self.queue or UNSET,
                self.task_type,
                self.last_error or UNSET,
                UNSET if self.task_age is None else self.task_age,
            )
        )


def encode_state_change(task: Task, now: int, queue: str) -> bytes:
    """Write `TaskStateChanged.of(task, now, queue)` without making it: two of these are sent for every task."""
    if queue and _is_plain(f"{task.id}{task.type}{task.state}{queue}"):
        return encode_named_state(task, now, queue)
    return _encode_any_state(task, now, queue)


def encode_named_state(task: Task, now: int, queue: str) -> bytes:
    """Write the same where id, type, state and queue are known to keep to the grammar of names: no escapes."""
    created = task.created
    age = now - created
    if task.last_err or not _INT64_MIN <= age <= _INT64_MAX or created == GO_ZERO:
        return _encode_any_state(task, now, queue)
    seconds = now // _SECOND
    return (
        f'{{"event_id":"{ksuid.serial(seconds)}","type":"{_TASK_STATE}",'
        f'"timestamp":"{_text_of(seconds)}","task_id":"{task.id}","state":"{task.state}",'
        f'"tries":{task.tries},"queue":"{queue}","task_type":"{task.type}","task_age":{age}}}'
    ).encode()


def _encode_any_state(task: Task, now: int, queue: str) -> bytes:
    created = task.created
    seconds = now // _SECOND
    return _bytes(
        _WrittenState(
            ksuid.serial(seconds),
            TaskStateChanged.TYPE,
            _text_of(seconds),
            task.id,
            task.state,
            task.tries,
            queue or UNSET,
            task.type,
            task.last_err or UNSET,
            UNSET if created == GO_ZERO else max(_INT64_MIN, min(int(now - created), _INT64_MAX)),
        )
    )


class LeaderElected(Struct, frozen=True, kw_only=True):
    """`name` leads `component` from now on."""

    TYPE: ClassVar[str] = "io.choria.asyncjobs.v1.leader_elected"

    event_id: str
    timestamp: Instant  # whole seconds
    name: str = ""
    component: str = ""

    @classmethod
    def of(cls, name: str, component: str, now: Instant) -> Self:
        """Tell of this election."""
        return cls(event_id=ksuid.new(now // _SECOND), timestamp=_second(now), name=name, component=component)

    def encode(self) -> bytes:
        """As Go writes it."""
        return _bytes(
            _WrittenElection(self.event_id, self.TYPE, _whole_seconds(self.timestamp), self.name, self.component)
        )


Event = TaskStateChanged | TaskProgressed | LeaderElected


def decode_event(data: bytes) -> Event:
    """Read an event; UnknownEvent for a type that is none of the above, MalformedEvent for anything else."""
    try:
        read = _read.decode(data)
    except record.READ_ERRORS:
        try:
            read = _read.decode(record.mended(data))
        except record.READ_ERRORS as error:
            raise MalformedEvent(*record.fault(error)) from None
    try:
        timestamp = Instant.parse(read.timestamp) if read.timestamp is not None else GO_ZERO
    except MalformedInstant as error:
        raise MalformedEvent("timestamp", error.reason) from None
    if read.type == TaskStateChanged.TYPE:
        return TaskStateChanged(
            event_id=read.event_id or "",
            timestamp=timestamp,
            task_id=read.task_id or "",
            state=read.state or "",
            tries=read.tries or 0,
            queue=read.queue or "",
            task_type=read.task_type or "",
            last_error=read.last_error or "",
            task_age=read.task_age,
        )
    if read.type == LeaderElected.TYPE:
        return LeaderElected(
            event_id=read.event_id or "", timestamp=timestamp, name=read.name or "", component=read.component or ""
        )
    if read.type == TaskProgressed.TYPE:
        return decode_progress(data)
    raise UnknownEvent("type", f"{read.type!r} is none that this version knows")


@lru_cache(maxsize=8)
def _text_of(seconds: int) -> str:
    return Instant(seconds * _SECOND).rfc3339()


def _is_plain(text: str) -> bool:
    """Whether nothing in it needs an escape: asked twice about each task."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _second(now: Instant) -> Instant:
    return Instant(now - now % _SECOND)


def _whole_seconds(moment: Instant) -> str:
    return _second(moment).rfc3339()


def _bytes(written: _WrittenState | _WrittenElection) -> bytes:
    try:
        return _encode(written)
    except UnicodeEncodeError:
        for field in written.__struct_fields__:
            value = getattr(written, field)
            if isinstance(value, str):
                setattr(written, field, record.without_surrogates(value))
        return _encode(written)
