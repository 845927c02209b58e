"""A task's result: any JSON value, as the bytes it was, and when it came."""

from __future__ import annotations

import binascii
import json
from typing import Any, Self

import msgspec
from msgspec import Raw, Struct

from ajc import record
from ajc.errors import MalformedInstant, MalformedTask
from ajc.instant import GO_ZERO, Instant

_KEYS = frozenset({"payload", "completed"})


class _Read(Struct, forbid_unknown_fields=True):
    payload: Raw = Raw(b"null")
    completed: str | None = None


_read = msgspec.json.Decoder(_Read)
_base64 = msgspec.json.Decoder(bytes)


class Result(Struct, frozen=True):
    """What a handler answered: `payload` is JSON; a responder's reply is bytes, so a base64 string there."""

    payload: Raw = Raw(b"null")
    completed: Instant = GO_ZERO
    extra: dict[str, Raw] = {}  # keys this version does not know

    @classmethod
    def of_bytes(cls, data: bytes, completed: Instant) -> Self:
        """Make the result that a reply with this body is."""
        return cls(Raw(b'"%b"' % binascii.b2a_base64(data, newline=False)), completed)

    @property
    def data(self) -> bytes:
        """The bytes that a base64 string stands for; of any other result its JSON."""
        raw = bytes(self.payload)
        try:
            return _base64.decode(raw)
        except record.READ_ERRORS:
            return raw

    @property
    def value(self) -> Any:
        """The payload as a Python value (a number too large for a float is inf); MalformedTask when it is too deep."""
        raw = bytes(self.payload)
        try:
            return msgspec.json.decode(raw)
        except record.READ_ERRORS:
            pass
        try:
            return json.loads(raw, parse_int=_whole)
        except (ValueError, RecursionError) as error:
            raise MalformedTask("result.payload", str(error)) from None

    def encode(self) -> bytes:
        """As in the task's JSON; InvalidValue for a time that cannot be written."""
        encoded = b'{"payload":%b,"completed":"%b"}' % (bytes(self.payload), self.completed.rfc3339().encode())
        return record.spliced(encoded, self.extra) if self.extra else encoded

    @classmethod
    def decode(cls, data: bytes, field: str = "result") -> Self:
        """Read one; MalformedTask with the field's path for what Go would refuse, and for what is nested too deep."""
        if not data.isascii():
            data = record.mended(data)
        try:
            read = _read.decode(data)
            extra: dict[str, Raw] = {}
        except record.READ_ERRORS:
            read, extra = _read_slowly(data, field)
        try:
            completed = Instant.parse(read.completed) if read.completed is not None else GO_ZERO
        except MalformedInstant as error:
            raise MalformedTask(f"{field}.completed", error.reason) from None
        return cls(read.payload.copy(), completed, extra)


def _read_slowly(data: bytes, field: str) -> tuple[_Read, dict[str, Raw]]:
    try:
        found = record.members(data)
        for key in found:
            other = record.lookalike(key, _KEYS)
            if other is not None:
                raise MalformedTask(field, f"key {key!r} would be taken for {other!r}")
        extra = {key: value.copy() for key, value in found.items() if key not in _KEYS}
        return _read.decode(record.joined({key: found[key] for key in _KEYS if key in found})), extra
    except record.READ_ERRORS as error:
        place, reason = record.fault(error)
        raise MalformedTask(f"{field}.{place}" if place else field, reason) from None


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # more than 4,300 digits
        return float(digits)
