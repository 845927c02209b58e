"""KSUIDs, the ids of tasks and events: 27 base-62 characters that sort by their second of creation.

20 bytes: big-endian seconds since 2014-05-13T16:53:20Z (unsigned, 32 bits), then 16 random bytes. Every save wants one
for its event, and the usual library takes 11 µs for it, so this codec works two digits at a time and draws its
randomness in blocks.
"""

from __future__ import annotations

import os
import time

from ajc.errors import InvalidValue

EPOCH = 1_400_000_000  # seconds since 1970
LENGTH = 27
RAW_LENGTH = 20
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_BLOCK = 256
_VALUE = {digit: value for value, digit in enumerate(DIGITS)}
_PAIRS = tuple(high + low for high in DIGITS for low in DIGITS)
_9_DIGITS = 62**9  # 27 digits are three groups of nine, each within 64 bits: cheap arithmetic
_randomness: list[int] = []
_series: list[str] = []
_series_second = 0


def _forget() -> None:
    """After a fork the child must not hand out what its parent hands out too."""
    _randomness.clear()
    _series.clear()


os.register_at_fork(after_in_child=_forget)


def _nine(number: int) -> str:
    pairs = _PAIRS
    number, a = divmod(number, 3844)
    number, b = divmod(number, 3844)
    number, c = divmod(number, 3844)
    number, d = divmod(number, 3844)
    return DIGITS[number] + pairs[d] + pairs[c] + pairs[b] + pairs[a]


def _text(number: int) -> str:
    rest, low = divmod(number, _9_DIGITS)
    high, middle = divmod(rest, _9_DIGITS)
    return _nine(high) + _nine(middle) + _nine(low)


def new(seconds: int | None = None) -> str:
    """Make an id for that second since 1970 (now when None); outside 2014 to 2150 its time wraps, as in Go."""
    if seconds is None:
        seconds = int(time.time())
    try:
        random = _randomness.pop()
    except IndexError:
        block = os.urandom(16 * _BLOCK)
        numbers = [int.from_bytes(block[at : at + 16], "big") for at in range(0, len(block), 16)]
        random = numbers.pop()
        _randomness.extend(numbers)
    return _text((((seconds - EPOCH) & 0xFFFFFFFF) << 128) | random)


def serial(seconds: int) -> str:
    """Make an id for that second since 1970 that others give away: for events, at a tenth of the cost of `new`.

    62 neighbours of each random id are handed out, so they are as unlikely to meet another's as that one is.
    """
    global _series_second  # noqa: PLW0603 - beside the list it belongs to
    if seconds == _series_second:
        try:
            return _series.pop()
        except IndexError:
            pass  # used up
    most = new(seconds)[:-1]
    _series_second = seconds
    _series[:] = [most + digit for digit in DIGITS]
    return _series.pop()


def encode(raw: bytes) -> str:
    """Write 20 raw bytes as text."""
    if len(raw) != RAW_LENGTH:
        raise InvalidValue("ksuid", raw, f"needs {RAW_LENGTH} bytes")
    return _text(int.from_bytes(raw, "big"))


def decode(text: str) -> bytes:
    """Read the 20 raw bytes; InvalidValue for anything else (Go takes characters that are no digits, this does not)."""
    if len(text) != LENGTH:
        raise InvalidValue("ksuid", text, f"needs {LENGTH} characters")
    number = 0
    for character in text:
        value = _VALUE.get(character)
        if value is None:
            raise InvalidValue("ksuid", text, "use the characters 0-9 A-Z a-z")
        number = number * 62 + value
    if number >> 160:
        raise InvalidValue("ksuid", text, "is beyond the last one, aWgEPTl1tmebfsQzFP4bxwgy80V")
    return number.to_bytes(RAW_LENGTH, "big")


def seconds_of(text: str) -> int:
    """Tell the second since 1970 in which this id was made."""
    return int.from_bytes(decode(text)[:4], "big") + EPOCH
