"""Times: nanoseconds and offsets survive, every year that RFC 3339 can write, and nothing but RFC 3339 is read."""

from __future__ import annotations

import copy
import pickle
import re
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ajc.errors import InvalidValue, MalformedInstant
from ajc.instant import GO_ZERO, Instant

FIRST = -62_167_219_200 * 10**9  # 0000-01-01T00:00:00Z
LAST = 253_402_300_800 * 10**9 - 1  # 9999-12-31T23:59:59.999999999Z
NANOSECONDS = st.integers(FIRST, LAST)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: minutes * 60)
DAY = 86_400 * 10**9


@given(NANOSECONDS)
@example(FIRST)
@example(LAST)
@example(0)
@example(-1)
def test_utc_survives_to_the_nanosecond(nanoseconds: int) -> None:
    text = Instant(nanoseconds).rfc3339()
    assert Instant.parse(text) == nanoseconds
    assert Instant.parse(text.encode()) == nanoseconds
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", text)  # Go trims zeros


@given(st.integers(FIRST + DAY, LAST - DAY), OFFSETS)
def test_an_offset_survives_and_does_not_count_in_comparisons(nanoseconds: int, offset: int) -> None:
    instant = Instant(nanoseconds).with_offset(offset)
    again = Instant.parse(instant.rfc3339())
    assert (again, again.offset) == (nanoseconds, offset)
    assert again == Instant(nanoseconds)
    assert hash(again) == hash(nanoseconds)
    assert again.utc().rfc3339() == Instant(nanoseconds).rfc3339()
    for other in (pickle.loads(pickle.dumps(instant)), copy.copy(instant), instant.plus(0)):
        assert (other, other.offset) == (nanoseconds, offset)


@given(st.datetimes(timezones=st.just(UTC)))
def test_agrees_with_datetime(moment: datetime) -> None:
    instant = Instant.from_datetime(moment)
    assert instant.to_datetime() == moment
    assert instant.rfc3339()[:19] == moment.isoformat()[:19]
    assert Instant.parse(moment.isoformat()) == instant


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with pytest.raises(MalformedInstant):
        Instant.parse(text)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_time_or_refused(data: bytes) -> None:
    with pytest.raises(MalformedInstant):
        Instant.parse(data)


@given(st.data(), NANOSECONDS)
def test_a_damaged_time_is_refused_or_another_time(data: st.DataObject, nanoseconds: int) -> None:
    text = Instant(nanoseconds).rfc3339()
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
    for _ in range(2):  # the second time through the cache of seconds
        try:
            instant = Instant.parse(damaged)
        except MalformedInstant:
            continue
        assert instant.rfc3339()[:10] == damaged[:10]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T03:04:05.+5Z",
        "2026-01-02T03:04:05. 5Z",
        "2026-01-02T03:04:05.1_0Z",
        "2026-01-02T03:04:05.٣Z",
        "2026-01-02T03:04:05z",
        "2026-01-02t03:04:05Z",
        "2026-01-02 03:04:05Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T23:60:00Z",
        "2026-01-02T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+02:60",
        "2026-01-02T03:04:05+0200",
        "2026-01-02T03:04:05Z\n",
        " 2026-01-02T03:04:05Z",
        "10000-01-01T00:00:00Z",
        "\uff12\uff10\uff12\uff16-01-02T03:04:05Z",
        "2026-01-02T03:04:05.5",
        "2026-01-02T03:04:05.",
        "",
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_refused(text: str, warm: bool) -> None:
    if warm:
        Instant.parse("2026-01-02T03:04:05Z")
    with pytest.raises(MalformedInstant) as caught:
        Instant.parse(text)
    assert caught.value.reason


def test_digits_beyond_the_ninth_are_cut_off() -> None:
    assert Instant.parse("2026-01-02T03:04:05.9999999999Z") == Instant.parse("2026-01-02T03:04:05.999999999Z")
    assert Instant.parse("2026-01-02T03:04:05." + "1" * 10_000 + "Z") % 10**9 == 111_111_111


def test_years_that_datetime_does_not_know() -> None:
    assert Instant.parse("0000-01-01T00:00:00Z") == FIRST
    assert Instant.parse("0000-02-29T00:00:00Z") == FIRST + 59 * DAY
    assert Instant.parse("0000-12-31T23:59:59.999999999Z") + 1 == GO_ZERO
    assert Instant.parse("0001-01-01T00:00:00+01:00").rfc3339() == "0001-01-01T00:00:00+01:00"
    assert Instant.parse("9999-12-31T23:59:59-01:00").rfc3339() == "9999-12-31T23:59:59-01:00"
    for beyond in (Instant(FIRST - 1), Instant(LAST + 1), Instant(10**30), Instant(-(10**30))):
        with pytest.raises(InvalidValue):
            beyond.rfc3339()
        assert repr(beyond) == f"Instant({int(beyond)})"
        assert str(beyond) == str(int(beyond))
        with pytest.raises(InvalidValue):
            beyond.to_datetime()


def test_with_a_datetime() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    instant = Instant.from_datetime(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=east))
    assert instant.rfc3339() == "2026-01-02T03:04:05.000006+05:30"
    assert instant.to_datetime().utcoffset() == timedelta(hours=5, minutes=30)
    odd = timezone(timedelta(hours=1, seconds=1))  # cannot be written: the instant counts, the offset goes
    assert Instant.from_datetime(datetime(2026, 1, 2, 1, 0, 1, tzinfo=odd)).rfc3339() == "2026-01-02T00:00:00Z"
    with pytest.raises(InvalidValue, match="no time zone"):
        Instant.from_datetime(datetime(2026, 1, 2))  # noqa: DTZ001
    assert Instant.parse("2026-01-02T03:04:05.123456789Z").to_datetime().microsecond == 123_456


def test_arithmetic_and_text() -> None:
    instant = Instant.parse("2026-01-02T03:04:05Z")
    assert instant.plus(1).rfc3339() == "2026-01-02T03:04:05.000000001Z"
    assert instant.plus(-5 * 10**9) - instant == -5 * 10**9
    assert repr(instant) == "Instant('2026-01-02T03:04:05Z')"
    assert f"{instant}" == "2026-01-02T03:04:05Z"
    assert f"{instant:d}" == str(int(instant))
    with pytest.raises(InvalidValue):
        instant.with_offset(30)
    assert abs(Instant.now() - time.time_ns()) < 60 * 10**9


def test_the_caches_stay_small() -> None:
    from ajc import instant as module  # noqa: PLC0415

    for second in range(5_000):
        Instant.parse(Instant(second * 10**9).rfc3339())
    assert len(module._start_of_text) <= module._CACHED
    assert len(module._text_of_second) <= module._CACHED
