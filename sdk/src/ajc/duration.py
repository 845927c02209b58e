"""Durations as people write them (`1h30m`, `250ms`, `7d`) <-> integer nanoseconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from ajc.errors import InvalidValue, MalformedDuration

NANOSECOND: Final = 1
MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

LONGEST: Final = 2**63 - 1  # what Go and JetStream can hold: about 292 years

_UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,  # the other micro sign: Go takes both
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
    "d": DAY,
}
_whole = re.compile(r"([+-]?)((?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h|d))+)").fullmatch
_parts = re.compile(r"([0-9.]+)([^0-9.]+)").findall
_LONGEST_TEXT = 200  # characters: nobody writes more, and Decimal's cost grows with them


def parse_duration(text: str) -> int:
    """Read a duration in Go's syntax, with `d` for 24 hours, as nanoseconds; MalformedDuration for anything else."""
    if text == "0":
        return 0
    match = _whole(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise MalformedDuration("", f"{text[:80]!r} is none: write it like 1h30m, 250ms or 7d")
    total = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in _parts(match[2]))
    if total > LONGEST:
        raise MalformedDuration("", f"{text[:80]!r} is longer than 292 years")
    return -total if match[1] == "-" else total


def format_duration(nanoseconds: int) -> str:
    """Write nanoseconds as the shortest text that parses back: `1h30m`, `1.5s`, `250ms`, `0s` (Go writes `1h30m0s`)."""
    if abs(nanoseconds) > LONGEST:
        raise InvalidValue("duration", nanoseconds, "is longer than 292 years")
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", MICROSECOND), ("µs", MILLISECOND), ("ms", SECOND)):
        if nanoseconds < size:
            return _decimal(nanoseconds, size // 1000) + unit
    hours, rest = divmod(nanoseconds, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    text = f"{hours}h" if hours else ""
    if minutes:
        text += f"{minutes}m"
    if rest:
        text += _decimal(rest, SECOND) + "s"
    return text


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    if not fraction:
        return str(whole)
    return f"{whole}.{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
