"""Delays: Go's policies exactly within Go's bounds, own ones as semantics says, both without a random source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decision_cases import ID
from hypothesis import given
from hypothesis import strategies as st

from ajc.duration import HOUR, MILLISECOND, MINUTE, SECOND
from ajc_bridge.decision.backoff import NAMED_BACKOFFS, Backoff, _go, go_bounds

GO = json.loads((Path(__file__).parents[1] / "vectors" / "retry_policies.json").read_text())
CASES = {case["name"]: case for case in GO["cases"]}


@pytest.mark.parametrize("name", CASES)
def test_go_policies_have_gos_intervals_and_jitter(name: str) -> None:
    policy = NAMED_BACKOFFS[name]
    assert policy == Backoff(name, tuple(CASES[name]["intervals_ns"]), CASES[name]["jitter"], go=True)


@pytest.mark.parametrize(
    ("name", "steps", "first", "last", "jitter"),
    [
        ("default", 50, MINUTE, 10 * MINUTE, 0.9),
        ("10m", 50, MINUTE, 10 * MINUTE, 0.9),
        ("1h", 20, 10 * MINUTE, HOUR, 0.9),
        ("1m", 20, SECOND, MINUTE, 0.5),
    ],
)
def test_go_policies_are_made_of_steps_first_last_and_jitter(
    name: str, steps: int, first: int, last: int, jitter: float
) -> None:
    made = _go(name, steps, first, last, jitter)
    assert made == NAMED_BACKOFFS[name]
    assert all(type(step) is int for step in made.steps_ns)


def test_steps_are_cut_to_whole_nanoseconds() -> None:
    assert _go("odd", 3, 10, 20, 0.5) == Backoff("odd", (10, 13, 16), 0.5, go=True)


def test_no_other_policies_are_named() -> None:
    assert sorted(NAMED_BACKOFFS) == GO["names"]


@pytest.mark.parametrize("name", CASES)
def test_go_policies_have_gos_bounds_for_every_try(name: str) -> None:
    policy = NAMED_BACKOFFS[name]
    for row in CASES[name]["tries"]:
        assert policy.step_ns(row["n"]) == row["base_ns"]
        assert go_bounds(policy, row["n"]) == (row["min_ns"], row["max_ns"])


@pytest.mark.parametrize("name", CASES)
def test_go_delays_lie_inside_the_bounds_and_use_their_whole_width(name: str) -> None:
    policy = NAMED_BACKOFFS[name]
    for tries in (1, 2, 7, 60):
        least, most = go_bounds(policy, tries)
        delays = [policy.delay_ns(f"task{n}", tries) for n in range(500)]
        assert least <= min(delays)
        assert max(delays) <= most
        assert all(delay % MILLISECOND == 0 for delay in delays)
        assert max(delays) - min(delays) > (most - least) * 0.95


def test_interval_zero_is_never_used() -> None:
    policy = NAMED_BACKOFFS["1m"]
    assert policy.step_ns(-1) == policy.step_ns(0) == policy.step_ns(1) == policy.steps_ns[1]


def test_own_policies_begin_with_their_first_step_and_stay_at_the_last() -> None:
    own = Backoff("mine", (SECOND, MINUTE, HOUR))
    assert [own.delay_ns(ID, tries) for tries in (-1, 0, 1, 2, 3, 4, 99)] == [
        SECOND,
        SECOND,
        SECOND,
        MINUTE,
        HOUR,
        HOUR,
        HOUR,
    ]


def test_own_policies_draw_evenly_on_both_sides_of_the_step() -> None:
    own = Backoff("mine", (MINUTE,), 0.25)
    delays = [own.delay_ns(f"task{n}", 1) for n in range(2_000)]
    assert 45 * SECOND <= min(delays) < 46 * SECOND
    assert 74 * SECOND < max(delays) <= 75 * SECOND
    assert abs(sum(delays) / len(delays) - MINUTE) < SECOND


def test_the_bounds_of_own_policies_are_reached() -> None:
    own = Backoff("mine", (4,), 0.5)
    assert {own.delay_ns(f"task{n}", 1) for n in range(200)} == {2, 3, 4, 5, 6}


def test_jitter_is_exact_to_the_thousandth() -> None:
    own = Backoff("mine", (1_000,), 0.001)
    assert {own.delay_ns(f"task{n}", 1) for n in range(100)} == {999, 1_000, 1_001}


def test_half_a_millisecond_is_rounded_away_from_zero() -> None:
    assert go_bounds(Backoff("x", (MILLISECOND,), 0.5, go=True), 1) == (MILLISECOND, 1 * MILLISECOND)
    assert go_bounds(Backoff("x", (MILLISECOND,), 0.499, go=True), 1) == (0, 1 * MILLISECOND)
    assert go_bounds(Backoff("x", (MILLISECOND,), 0.501, go=True), 1) == (MILLISECOND, 2 * MILLISECOND)
    assert go_bounds(Backoff("x", (MILLISECOND + 1,), 0.5, go=True), 1) == (MILLISECOND, 2 * MILLISECOND)
    assert go_bounds(Backoff("x", (MILLISECOND - 1,), 0.5, go=True), 1) == (0, 1 * MILLISECOND)


def test_any_id_has_a_delay() -> None:
    assert NAMED_BACKOFFS["1m"].delay_ns("half a character \ud800", 1) > 0


def test_the_chance_is_a_hash_of_task_and_try() -> None:
    policy = NAMED_BACKOFFS["default"]
    assert policy.delay_ns("a", 1) == policy.delay_ns("a", 1)
    assert len({policy.delay_ns("a", tries) - policy.step_ns(tries) for tries in range(1, 40)}) > 30
    assert len({policy.delay_ns(f"task{n}", 1) for n in range(40)}) > 30


def test_the_chance_stays_the_same_from_version_to_version() -> None:
    assert [NAMED_BACKOFFS["1m"].delay_ns(ID, tries) for tries in (1, 2, 3)] == PINNED
    assert Backoff("mine", (MINUTE,), 0.5).delay_ns(ID, 1) == PINNED_OWN


PINNED = [2_979_000_000, 8_387_000_000, 6_112_000_000]
PINNED_OWN = 45_252_568_337


@given(st.text(), st.integers(), st.integers(1, 10**18), st.floats(0, 1), st.booleans())
def test_any_delay_is_within_its_bounds(task_id: str, tries: int, step: int, jitter: float, go: bool) -> None:
    policy = Backoff("any", (step,), jitter, go=go)
    delay = policy.delay_ns(task_id, tries)
    assert type(delay) is int
    if go:
        least, most = go_bounds(policy, tries)
        assert type(least) is type(most) is int
        assert least <= delay <= most
    else:
        assert step * (1 - jitter) - step * 0.001 - 1 <= delay <= step * (1 + jitter) + step * 0.001 + 1
        assert delay >= 0
