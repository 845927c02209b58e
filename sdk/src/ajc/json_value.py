"""Python values as JSON, refusing what JSON cannot say (the encoder below would write an infinite float as null)."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from ajc.errors import InvalidValue

_encoder = msgspec.json.Encoder()


def encode_value(value: Any, field: str) -> bytes:
    """Write any value that msgspec can encode (dataclasses, structs, datetimes, UUIDs) as JSON; else InvalidValue."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValue(field, type(value), f"cannot be written as JSON: {error}") from None
    except RecursionError:
        raise InvalidValue(
            field, type(value), "cannot be written as JSON: it is nested too deep, or holds itself"
        ) from None
    if b"null" in encoded and not _finite(value):
        raise InvalidValue(field, type(value), "cannot be written as JSON: it holds a float that is no number")
    return encoded


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_finite, value))
    return True
