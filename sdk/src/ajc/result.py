"""A task's result: any JSON value, as the bytes it was, and when it came."""

from __future__ import annotations

import binascii
import json
from typing import Any, Self, TypeVar, overload

import msgspec
from msgspec import Raw, Struct

from ajc import record
from ajc.errors import InvalidValue, MalformedInstant, MalformedTask
from ajc.instant import GO_ZERO, Instant

_KEYS = frozenset({"payload", "completed"})


class _Read(Struct, forbid_unknown_fields=True):
    payload: Raw = Raw(b"null")
    completed: str | None = None


_read = msgspec.json.Decoder(_Read)
_base64 = msgspec.json.Decoder(bytes)
_text = msgspec.json.Decoder(str)
_T = TypeVar("_T")


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
        """What the handler returned: a JSON value, or bytes when its answer was no JSON.

        A responder's answer is bytes, in base64 here, and read as JSON where it is that. A text that is no such base64,
        and every payload that is no text, is as it stands: Go's own handlers store JSON. Their text that happens to be
        base64 too cannot be told apart; `raw` has it. A number too large for a float is inf. Raises `MalformedTask`
        for what is nested too deep.
        """
        data = self._answer()
        if data is None:
            return self.raw
        try:
            return _json_value(data)
        except MalformedTask:
            return data

    @property
    def raw(self) -> Any:
        """The payload as it is in the record, as a Python value: base64 text for a responder's answer.

        A number too large for a float is inf. Raises `MalformedTask` for what is nested too deep.
        """
        return _json_value(bytes(self.payload))

    @overload
    def as_(self, kind: type[_T]) -> _T: ...

    @overload
    def as_(self, kind: Any) -> Any: ...

    def as_(self, kind: Any) -> Any:
        """Return what the handler returned as this type: a struct, a dataclass, a pydantic model, or `dict[str, int]`.

        `bytes` are the answer as it came. Raises `MalformedTask`, which names the place, for what does not fit, and
        `InvalidValue` for a type that no JSON can be decoded into.
        """
        data = self._answer()
        data = bytes(self.payload) if data is None else data
        if kind is bytes:
            return data
        try:
            return msgspec.json.decode(data, type=kind, dec_hook=_model)
        except record.READ_ERRORS as error:
            place, reason = record.fault(error)
            raise MalformedTask(f"result.{place}" if place else "result", reason) from None
        except TypeError as error:
            raise InvalidValue("result type", kind, f"JSON cannot be decoded into it: {error}") from None

    def _answer(self) -> bytes | None:
        """Return the bytes that a responder answered; None for a payload that is not their base64, as Go writes it."""
        try:
            text = _text.decode(bytes(self.payload))
            data = binascii.a2b_base64(text, strict_mode=True)
        except (*record.READ_ERRORS, ValueError):
            return None
        return data if binascii.b2a_base64(data, newline=False) == text.encode() else None

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


def _model(kind: Any, value: Any) -> Any:
    """Read a pydantic model, which msgspec does not know; any other type is refused."""
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise InvalidValue("result type", kind, "JSON cannot be decoded into it")
    return validate(value)


def _json_value(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except record.READ_ERRORS as error:
        if not isinstance(error, msgspec.ValidationError):  # that is a number out of range, and JSON all the same
            raise MalformedTask("result.payload", record.fault(error)[1]) from None
    try:
        return json.loads(data, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise MalformedTask("result.payload", str(error)) from None


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # more than 4,300 digits
        return float(digits)
