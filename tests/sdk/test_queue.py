"""A queue as it is written: checked, and normalised."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ajc.errors import AjcError, InvalidName, InvalidValue
from ajc.queue import Queue, nanoseconds


def test_durations_are_seconds_or_timedeltas() -> None:
    assert Queue("Q", max_run_time=600, lease=1.5) == Queue(
        "Q", max_run_time=timedelta(minutes=10), lease=timedelta(milliseconds=1500)
    )
    assert Queue("Q", lease=1.5).lease_ns == 1_500_000_000
    assert Queue("Q").lease_ns is None
    assert Queue("Q", max_age=0).max_age_ns == 0
    assert nanoseconds(timedelta(days=10_000, microseconds=1)) == 10_000 * 86_400 * 10**9 + 1000


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a:b", "a*", "x" * 129, "a\n", "é"])
def test_names_outside_the_grammar(name: str) -> None:
    with pytest.raises(InvalidName):
        Queue(name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tries", -1),
        ("max_tries", True),
        ("max_tries", 1.5),
        ("max_run_time", 0),
        ("max_run_time", -1),
        ("max_run_time", "1h"),
        ("max_run_time", float("nan")),
        ("max_run_time", float("inf")),
        ("max_run_time", 1e300),
        ("max_run_time", 0.099),
        ("lease", 0),
        ("lease", 0.001),
        ("lease", timedelta(milliseconds=99)),
        ("max_concurrent", 0),
        ("max_concurrent", -2),
        ("max_entries", -1),
        ("when_full", "wait"),
        ("max_age", -1),
        ("max_age", 0.05),
        ("priority", 0),
        ("priority", 101),
        ("backoff", ""),
        ("storage", "tape"),
        ("replicas", 0),
        ("replicas", 6),
    ],
)
def test_values_that_cannot_be(field: str, value: Any) -> None:
    with pytest.raises(AjcError) as refused:
        Queue("Q", **{field: value})
    assert isinstance(refused.value, InvalidValue)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("max_run_time", "must be at least 100ms"),
        ("lease", "must be at least 100ms"),
        ("max_age", "must be 0s or at least 100ms"),
    ],
)
def test_the_shortest_duration_is_that_of_the_configuration_file(field: str, accepted: str) -> None:
    assert getattr(Queue("Q", **{field: 0.1}), field) == timedelta(milliseconds=100)
    with pytest.raises(InvalidValue) as refused:
        Queue("Q", **{field: timedelta(milliseconds=1)})
    assert refused.value.reason == accepted


def test_a_lease_is_not_longer_than_the_run_time() -> None:
    with pytest.raises(InvalidValue, match="lease"):
        Queue("Q", lease=61, max_run_time=60)
    Queue("Q", lease=60, max_run_time=60)


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        Queue("Q").name = "R"  # type: ignore[misc]


def test_a_refused_duration_is_shown_as_people_write_it() -> None:
    with pytest.raises(InvalidValue, match=r"^max_age 1ms: must be 0s or at least 100ms$"):
        Queue("Q", max_age=timedelta(milliseconds=1))
    with pytest.raises(InvalidValue, match=r"^lease 0s: must be at least 100ms$"):
        Queue("Q", lease=0)
