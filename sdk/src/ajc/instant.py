"""UTC nanoseconds <-> RFC 3339, lossless: what a `datetime` (microseconds) would round away is covered by signatures.

Go writes up to nine fractional digits without trailing zeros, `Z` for UTC, and keeps the offset that a caller gave.
Of what Go reads, this refuses `,` for `.`, one-digit hours, `+24:00` and `+02:60`: no writer makes them.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import ClassVar

from ajc.errors import InvalidValue, MalformedInstant

SECOND = 1_000_000_000
_DAY_SECONDS = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_400_YEARS_DAYS = 146_097
_FIRST_DAY = -365  # the ordinal of 0000-01-01, in a leap year before the first day that `date` knows
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_pattern = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
).fullmatch

# Tasks that are handled together were made in the same seconds: these two tables turn most of the work into a lookup.
_CACHED = 2_048
_start_of_text: dict[str, int] = {}  # nanoseconds
_text_of_second: dict[int, str] = {}
_SCALE = tuple(10 ** (9 - digits) for digits in range(10))


class Instant(int):
    """UTC nanoseconds since 1970, of any size; `offset`: the seconds east of UTC it is written with (== ignores it)."""

    __slots__ = ()  # several are made for every task

    offset: ClassVar[int] = 0

    @classmethod
    def parse(cls, text: str | bytes) -> Instant:
        """Read RFC 3339; digits beyond the ninth are cut off. MalformedInstant for anything else."""
        if isinstance(text, bytes):
            try:
                text = text.decode("ascii")
            except UnicodeDecodeError:
                raise MalformedInstant("", "not ASCII") from None
        start = _start_of_text.get(text[:19])
        if start is not None and text[-1] == "Z":
            if len(text) == 20:  # noqa: PLR2004 - nothing but seconds
                return cls(start)
            digits = text[20:-1]
            if text[19] == "." and digits.isdecimal() and digits.isascii():
                if len(digits) == 9:  # noqa: PLR2004 - nanoseconds
                    return cls(start + int(digits))
                if len(digits) < 9:  # noqa: PLR2004
                    return cls(start + int(digits) * _SCALE[len(digits)])
                return cls(start + int(digits[:9]))
        return cls._parse_slowly(text)

    @classmethod
    def _parse_slowly(cls, text: str) -> Instant:
        match = _pattern(text)
        if match is None:
            raise MalformedInstant("", f"{text[:80]!r} is not RFC 3339: write it like 2026-01-02T03:04:05.5Z")
        year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
        if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004
            raise MalformedInstant("", f"{text[:80]!r}: hour, minute or second out of range")
        try:
            # The calendar repeats every 400 years; `date` itself knows no year 0.
            ordinal = (
                date(year, month, day).toordinal() if year else date(400, month, day).toordinal() - _400_YEARS_DAYS
            )
        except ValueError:
            raise MalformedInstant("", f"{text[:80]!r}: there is no such day") from None
        seconds = (ordinal - _EPOCH_ORDINAL) * _DAY_SECONDS + hour * 3600 + minute * 60 + second
        if len(_start_of_text) >= _CACHED:
            _start_of_text.clear()
        _start_of_text[text[:19]] = seconds * SECOND
        nanoseconds = int((match[7] or "0")[:9].ljust(9, "0"))
        if match[8] is None:
            return cls(seconds * SECOND + nanoseconds)
        offset_hours, offset_minutes = int(match[9]), int(match[10])
        if offset_hours > 23 or offset_minutes > 59:  # noqa: PLR2004
            raise MalformedInstant("", f"{text[:80]!r}: offset out of range")
        offset = (offset_hours * 60 + offset_minutes) * (-60 if match[8] == "-" else 60)
        return cls((seconds - offset) * SECOND + nanoseconds).with_offset(offset)

    def rfc3339(self) -> str:
        """Write as Go does; InvalidValue outside the years 0 to 9999 (as seen at its offset): no text can say it."""
        offset = self.offset
        seconds, nanoseconds = divmod(int(self) + offset * SECOND if offset else self, SECOND)
        text = _text_of_second.get(seconds)
        if text is None:
            text = _second_text(seconds)
        if nanoseconds % 10 and not offset:  # no zeros to trim, as nine clocks in ten say
            return f"{text}.{nanoseconds:09d}Z"
        if nanoseconds:
            text = f"{text}.{nanoseconds:09d}".rstrip("0")
        if not offset:
            return text + "Z"
        hours, minutes = divmod(abs(offset) // 60, 60)
        return f"{text}{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"

    @classmethod
    def now(cls) -> Instant:
        """Read the clock of this machine."""
        return cls(time.time_ns())

    @classmethod
    def from_datetime(cls, moment: datetime) -> Instant:
        """Take an aware datetime, exactly, with its offset; InvalidValue for a naive one, which names no instant."""
        offset = moment.utcoffset()
        if offset is None:
            raise InvalidValue("datetime", moment, "has no time zone: use datetime.now(UTC) or .astimezone()")
        instant = cls((moment - _EPOCH) // _MICROSECOND * 1000)
        seconds, odd = divmod(offset, timedelta(minutes=1))
        return instant if odd else instant.with_offset(seconds * 60)  # an offset of odd seconds cannot be written

    def to_datetime(self) -> datetime:
        """Give the aware datetime at this offset, cut to microseconds; InvalidValue outside the years 1 to 9999."""
        zone = UTC if not self.offset else timezone(timedelta(seconds=self.offset))
        try:
            return (_EPOCH + timedelta(microseconds=int(self) // 1000)).astimezone(zone)
        except (OverflowError, ValueError):
            raise InvalidValue(
                "instant", int(self), "is outside the years 1 to 9999 that a datetime can hold"
            ) from None

    def plus(self, nanoseconds: int) -> Instant:
        """Go so much later (earlier when negative), at the same offset."""
        later = Instant(self + nanoseconds)
        return later.with_offset(self.offset) if self.offset else later

    def with_offset(self, seconds: int) -> Instant:
        """Give the same instant, written with this offset: whole minutes, under a day either way."""
        if abs(seconds) >= _DAY_SECONDS or seconds % 60:
            raise InvalidValue("offset", seconds, "use whole minutes, under a day")
        if not seconds:
            return Instant(self)
        same = _ElsewhereInstant(self)
        same.offset = seconds
        return same

    def utc(self) -> Instant:
        """Give the same instant, written with Z."""
        return Instant(self) if self.offset else self

    def __repr__(self) -> str:
        try:
            return f"Instant({self.rfc3339()!r})"
        except InvalidValue:
            return f"Instant({int(self)})"

    def __str__(self) -> str:
        try:
            return self.rfc3339()
        except InvalidValue:
            return int.__repr__(self)


class _ElsewhereInstant(Instant):
    """One that is written with an offset, which few are."""

    offset: int = 0  # type: ignore[misc]  # of each instance


def _second_text(seconds: int) -> str:
    days, rest = divmod(seconds, _DAY_SECONDS)
    ordinal = days + _EPOCH_ORDINAL
    if not _FIRST_DAY <= ordinal <= date.max.toordinal():
        raise InvalidValue("instant", seconds, "is outside the years 0 to 9999 that RFC 3339 can write")
    if ordinal >= 1:
        day = date.fromordinal(ordinal)
        year = day.year
    else:
        day = date.fromordinal(ordinal + _400_YEARS_DAYS)
        year = 0
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{year:04d}-{day.month:02d}-{day.day:02d}T{hours:02d}:{minutes:02d}:{rest:02d}"
    if len(_text_of_second) >= _CACHED:
        _text_of_second.clear()
    _text_of_second[seconds] = text
    return text


GO_ZERO = Instant(-62_135_596_800 * SECOND)  # 0001-01-01T00:00:00Z: what Go writes for a time that was never set
