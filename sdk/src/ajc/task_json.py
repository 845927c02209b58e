"""The record's JSON: the keys that are read and written, and the ways to read them.

`read_usual` takes what most records are, at half the cost; `read` takes every other, and keeps what it does not know.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, UnsetType

from ajc import record
from ajc.errors import MalformedTask

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # what Go can hold: it refuses more


class Read(Struct, forbid_unknown_fields=True):
    """The record as it is read: any key may be missing or null."""

    id: str | None = None
    type: str | None = None
    queue: str | None = None
    dependencies: tuple[str, ...] | None = None
    dependency_results: dict[str, Raw] | None = None
    load_dependencies: bool | None = None
    payload: bytes | None = None
    deadline: str | None = None
    max_tries: _Int64 | None = None
    result: Raw = Raw()  # empty stands for absent
    state: str | None = None
    created: str | None = None
    tried: str | None = None
    tries: _Int64 | None = None
    last_err: str | None = None
    signature: str | None = None
    next_try_at: str | None = None
    cancelled: str | None = None
    dead_letter: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class _ReadKnown(Read, forbid_unknown_fields=False):
    """The same, passing over what it does not know."""


class ReadUsual(Struct, forbid_unknown_fields=True):
    """A record with none but the keys that most have, none of them null: read at half the cost."""

    id: str
    type: str
    queue: str
    max_tries: _Int64
    state: str
    created: str
    tries: _Int64
    payload: bytes | None = None
    deadline: str | None = None
    tried: str | None = None
    traceparent: str = ""
    tracestate: str = ""


class Written(Struct):
    """The record as it is written: Go's keys in Go's order, then ours. Unset keys are left out."""

    id: str
    type: str
    queue: str
    dependencies: tuple[str, ...] | UnsetType
    dependency_results: dict[str, Raw] | UnsetType
    load_dependencies: bool | UnsetType
    payload: bytes | None
    deadline: str | UnsetType
    max_tries: int
    result: Raw | UnsetType
    state: str
    created: str
    tried: str | UnsetType
    tries: int
    last_err: str | UnsetType
    signature: str | UnsetType
    next_try_at: str | UnsetType
    cancelled: str | UnsetType
    dead_letter: str | UnsetType
    traceparent: str | UnsetType
    tracestate: str | UnsetType


KEYS = frozenset(Read.__struct_fields__)
OWN_KEYS = ("next_try_at", "cancelled", "dead_letter", "traceparent", "tracestate")
"""Ours: Go ignores them, and somebody else may mean something else by them."""
NULL = Raw(b"null")
_GO_KEYS = KEYS - set(OWN_KEYS)

encode = msgspec.json.Encoder().encode
read_usual = msgspec.json.Decoder(ReadUsual).decode
"""Read a record with the usual keys alone. Raises `record.READ_ERRORS` for any other, which `read` may take."""
_read = msgspec.json.Decoder(Read)
_read_known = msgspec.json.Decoder(_ReadKnown)
_text = msgspec.json.Decoder(str | None)


def read(data: bytes) -> tuple[Read, dict[str, Raw]]:
    """Read a record, and the members that this version does not know as the bytes they were.

    Raises `MalformedTask` for what is none.
    """
    try:
        return _read.decode(data), {}
    except record.READ_ERRORS:
        return _read_slowly(data)


def _read_slowly(data: bytes) -> tuple[Read, dict[str, Raw]]:
    """Read what is not exactly the known keys with their types: keep the rest, mend texts, or say what is wrong."""
    try:
        data = record.mended(data)
        found = record.members(data)
        extra = {}
        for key in found:
            if key not in KEYS:
                other = record.lookalike(key, _GO_KEYS)
                if other is not None:
                    raise MalformedTask("", f"key {key!r} would be taken for {other!r} by other readers")
                extra[key] = found[key].copy()
        for key in OWN_KEYS:
            try:
                _text.decode(found.get(key, NULL))
            except msgspec.DecodeError:
                extra[key] = found.pop(key).copy()
                data = b""
        return _read_known.decode(data or record.joined({key: found[key] for key in found.keys() & KEYS})), extra
    except record.READ_ERRORS as error:
        raise MalformedTask(*record.fault(error)) from None
