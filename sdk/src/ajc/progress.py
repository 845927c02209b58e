"""How far a running attempt is: the body of a heartbeat, and the event that it becomes. Neither is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Self

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ajc import ksuid, record
from ajc.errors import MalformedEvent, MalformedInstant
from ajc.exchange import clean_text
from ajc.instant import GO_ZERO, Instant

LONGEST_BEAT: Final = 32_768
"""Bytes of a beat's body that are read at all: a text of 4,096 bytes with every character escaped, and room."""

_SECOND: Final = 1_000_000_000
_Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Progress(Struct, frozen=True):
    """What a beat says: `percent` from 0 to 100, None when it does not say; `message` "" when it has none."""

    percent: int | float | None = None
    message: str = ""


NOTHING_SAID: Final = Progress()
"""A mere sign of life."""


class _ReadBeat(Struct):
    percent: _Percent | None = None
    message: str | None = None


class _ReadEvent(Struct):
    type: str | None = None
    event_id: str | None = None
    timestamp: str | None = None
    task_id: str | None = None
    queue: str | None = None
    task_type: str | None = None
    tries: _Int64 | None = None
    percent: _Percent | None = None
    message: str | None = None


class _WrittenEvent(Struct):
    event_id: str
    type: str
    timestamp: str
    task_id: str
    tries: int
    queue: str | UnsetType
    task_type: str
    percent: int | float | UnsetType
    message: str | UnsetType


_read_beat = msgspec.json.Decoder(_ReadBeat).decode
_read_event = msgspec.json.Decoder(_ReadEvent).decode
_encode = msgspec.json.Encoder().encode
_KNOWN: Final = frozenset(_ReadEvent.__struct_fields__)


def read_beat(body: bytes) -> Progress | None:
    """Read a beat's body, never failing: empty, or `{"percent": 0..100, "message": "..."}`; None for anything else.

    Both keys may be missing, further ones are ignored. The message is cleaned as every text of a responder is. More
    than 32 KiB are not looked at: None.
    """
    if not body:
        return NOTHING_SAID
    if len(body) > LONGEST_BEAT:
        return None
    try:
        read = _read_beat(body)
    except record.READ_ERRORS:
        return None
    return Progress(read.percent, clean_text(read.message) if read.message else "")


class TaskProgressed(Struct, frozen=True, kw_only=True):
    """A running attempt told how far it is; `extra` has the keys that this version does not know.

    Ten a second at most are published of one task: the newest, and always the last one.
    """

    TYPE: ClassVar[str] = "io.choria.asyncjobs.v1.task_progress"

    event_id: str
    timestamp: Instant  # whole seconds
    task_id: str
    queue: str = ""
    task_type: str = ""
    tries: int = 0  # the running attempt, from 1
    percent: int | float | None = None  # 0 to 100
    message: str = ""
    extra: Mapping[str, Raw] = {}

    @classmethod
    def of(cls, task_id: str, said: Progress, now: Instant, *, queue: str, task_type: str, tries: int) -> Self:
        """Tell of this progress."""
        return cls(
            event_id=ksuid.new(now // _SECOND),
            timestamp=Instant(now - now % _SECOND),
            task_id=task_id,
            queue=queue,
            task_type=task_type,
            tries=tries,
            percent=said.percent,
            message=said.message,
        )

    def encode(self) -> bytes:
        """Write it: an empty queue or message and an unknown percentage are left out."""
        moment = Instant(self.timestamp - self.timestamp % _SECOND)
        written = _encode(
            _WrittenEvent(
                record.without_surrogates(self.event_id),
                self.TYPE,
                moment.rfc3339(),
                record.without_surrogates(self.task_id),
                self.tries,
                record.without_surrogates(self.queue) or UNSET,
                record.without_surrogates(self.task_type),
                UNSET if self.percent is None else self.percent,
                record.without_surrogates(self.message) or UNSET,
            )
        )
        return record.spliced(written, self.extra) if self.extra else written


def decode_progress(data: bytes) -> TaskProgressed:
    """Read the event; `MalformedEvent` for what is none."""
    try:
        read = _read_event(data)
    except record.READ_ERRORS:
        data = record.mended(data)
        try:
            read = _read_event(data)
        except record.READ_ERRORS as error:
            raise MalformedEvent(*record.fault(error)) from None
    try:
        timestamp = Instant.parse(read.timestamp) if read.timestamp is not None else GO_ZERO
    except MalformedInstant as error:
        raise MalformedEvent("timestamp", error.reason) from None
    return TaskProgressed(
        event_id=read.event_id or "",
        timestamp=timestamp,
        task_id=read.task_id or "",
        queue=read.queue or "",
        task_type=read.task_type or "",
        tries=read.tries or 0,
        percent=read.percent,
        message=read.message or "",
        extra={key: value.copy() for key, value in record.members(data).items() if key not in _KNOWN},
    )
