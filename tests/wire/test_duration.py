"""Durations in Go's syntax, with days."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc.duration import DAY, HOUR, LONGEST, MINUTE, SECOND, format_duration, parse_duration
from ajc.errors import InvalidValue, MalformedDuration


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h30m", 90 * MINUTE),
        ("250ms", 250_000_000),
        ("7d", 7 * DAY),
        ("1d12h", 36 * HOUR),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("1.s", SECOND),
        ("-2m", -2 * MINUTE),
        ("+2m", 2 * MINUTE),
        ("0", 0),
        ("0s", 0),
        ("3us", 3_000),
        ("3µs", 3_000),
        ("3μs", 3_000),
        ("1ns", 1),
        ("0.3ns", 0),
        ("0.1h", 6 * MINUTE),
        ("2562047h47m16.854775807s", LONGEST),
    ],
)
def test_read(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    ["", " 1s", "1s ", "1", "s", "1 s", "1S", "1x", "1e3s", "٣s", "1s\n", "-", ".s", "--1s", "inf"],
)
def test_refused(text: str) -> None:
    with pytest.raises(MalformedDuration) as caught:
        parse_duration(text)
    assert caught.value.reason


@pytest.mark.parametrize("text", ["2562047h47m16.854775808s", "9" * 150 + "h", "1s" * 5000])
def test_too_long_is_refused(text: str) -> None:
    with pytest.raises(MalformedDuration):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (28 * SECOND, "28s"),
        (90 * MINUTE, "1h30m"),
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (250_000_000, "250ms"),
        (1_500_000_000, "1.5s"),
        (2 * MINUTE, "2m"),
        (7 * DAY, "168h"),
        (HOUR + SECOND, "1h1s"),
        (-90 * SECOND, "-1m30s"),
    ],
)
def test_written(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(-LONGEST, LONGEST))
def test_what_is_written_reads_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text(alphabet="0123456789.-+hmsdnuµ ٣e", max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(MalformedDuration):
        assert -LONGEST <= parse_duration(text) <= LONGEST


def test_what_go_cannot_hold_is_not_written() -> None:
    with pytest.raises(InvalidValue):
        format_duration(LONGEST + 1)
