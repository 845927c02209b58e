"""semantics: the cap, and "Lease and time of an attempt", row by row."""

from __future__ import annotations

import pytest
from decision_cases import MILLISECOND, MINUTE, NOW, SECOND, after, make_policy, make_task
from hypothesis import given
from hypothesis import strategies as st

from ajc_bridge.decision.backoff import NAMED_BACKOFFS
from ajc_bridge.decision.policy import (
    QueuePolicy,
    TimeBudget,
    beat_ns,
    cap,
    margin_ns,
    renewal_due,
    renewal_ns,
    run_time_ns,
    time_after_beat,
    time_budget,
)


@pytest.mark.parametrize(
    ("own", "queue", "expected"),
    [
        pytest.param(3, 5, 3, id="the smaller of the two: the task's"),
        pytest.param(7, 5, 5, id="the smaller of the two: the queue's"),
        pytest.param(0, 5, 5, id="0 means no limit of its own: the task's"),
        pytest.param(-1, 5, 5, id="negative means no limit of its own: the task's"),
        pytest.param(3, 0, 3, id="0 means no limit of its own: the queue's"),
        pytest.param(3, -1, 3, id="negative means no limit of its own: the queue's"),
        pytest.param(1, 1, 1, id="one try is one try"),
        pytest.param(1, 2, 1, id="one try of the task's"),
        pytest.param(2, 1, 1, id="one try of the queue's"),
        pytest.param(0, 0, 0, id="no cap at all"),
        pytest.param(-2, -1, 0, id="no cap at all, negative"),
    ],
)
def test_cap(own: int, queue: int, expected: int) -> None:
    assert cap(make_task(max_tries=own), make_policy(max_tries=queue)) == expected


RUN = 10 * MINUTE


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [
        pytest.param(None, RUN, id="no deadline: the queue's run time"),
        pytest.param(RUN + 1, RUN, id="a later deadline changes nothing"),
        pytest.param(RUN - 1, RUN - 1, id="a sooner deadline cuts it short"),
        pytest.param(1, 1, id="a deadline right now"),
        pytest.param(0, 0, id="the deadline itself"),
        pytest.param(-5, 0, id="never negative"),
    ],
)
def test_effective_run_time_is_the_smaller_of_run_time_and_time_to_the_deadline(
    deadline: int | None, expected: int
) -> None:
    task = make_task(deadline=None if deadline is None else after(deadline))
    assert run_time_ns(task, make_policy(), NOW) == expected


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param(10 * MINUTE, 2 * SECOND, id="2 s at most"),
        pytest.param(20 * SECOND, 2 * SECOND, id="where both meet"),
        pytest.param(20 * SECOND - 10, 2 * SECOND - 1, id="a tenth of it"),
        pytest.param(0, 0, id="nothing of nothing"),
    ],
)
def test_margin_is_the_smaller_of_2_s_and_a_tenth(run: int, expected: int) -> None:
    assert margin_ns(run) == expected


def test_handler_deadline_is_the_end_less_the_margin_and_the_bridge_waits_half_a_margin_longer() -> None:
    budget = time_budget(make_task(), make_policy(max_run_time_ns=30 * SECOND), NOW)
    assert budget == TimeBudget(
        run_ns=30 * SECOND,
        handler_ns=28 * SECOND,
        wait_ns=29 * SECOND,
        handler_deadline=after(28 * SECOND),
        at_deadline=False,
    )


def test_the_deadline_of_the_task_ends_the_attempt() -> None:
    budget = time_budget(make_task(deadline=after(10 * SECOND)), make_policy(), NOW)
    assert budget == TimeBudget(
        run_ns=10 * SECOND,
        handler_ns=9 * SECOND,
        wait_ns=9 * SECOND + 500 * MILLISECOND,
        handler_deadline=after(9 * SECOND),
        at_deadline=True,
    )


@pytest.mark.parametrize(("deadline", "expected"), [(RUN, True), (RUN + 1, False), (-1, True)])
def test_running_out_of_time_is_final_when_the_deadline_is_what_ended_it(deadline: int, expected: bool) -> None:
    assert time_budget(make_task(deadline=after(deadline)), make_policy(), NOW).at_deadline is expected


@given(st.integers(0, 10**15), st.integers(-(10**15), 10**15))
def test_times_are_in_order_and_within_the_run_time(run: int, deadline: int) -> None:
    budget = time_budget(make_task(deadline=after(deadline)), make_policy(max_run_time_ns=run), NOW)
    assert all(type(time) is int for time in (budget.run_ns, budget.handler_ns, budget.wait_ns))
    assert 0 <= budget.handler_ns <= budget.wait_ns <= budget.run_ns <= run
    assert budget.handler_deadline >= NOW
    assert budget.run_ns == 0 or budget.handler_deadline <= NOW.plus(budget.run_ns) <= max(NOW, after(max(deadline, 0)))


@pytest.mark.parametrize(
    ("run", "renews", "expected"),
    [
        pytest.param(30 * SECOND, True, 10 * SECOND, id="EXEC-23: a third of the run time"),
        pytest.param(10 * SECOND, True, 3_333_333_333, id="EXEC-23: in whole nanoseconds"),
        pytest.param(3 * SECOND, True, SECOND, id="EXEC-23: a third of it is a second"),
        pytest.param(3 * SECOND - 1, True, SECOND, id="EXEC-23: a second at least"),
        pytest.param(2 * SECOND, True, SECOND, id="a first beat comes in time"),
        pytest.param(2 * SECOND - 1, True, 0, id="a first beat would come too late: none is asked for"),
        pytest.param(30 * SECOND, False, 0, id="Go's queue: nothing is renewed beyond its run time, so none"),
    ],
)
def test_how_often_a_responder_is_asked_to_beat(run: int, renews: bool, expected: int) -> None:
    assert beat_ns(make_policy(max_run_time_ns=run, renews=renews)) == expected


@pytest.mark.rule("EXEC-26")
@pytest.mark.rule("EXEC-28")
def test_a_beat_gives_a_full_run_time_and_three_missed_ones_end_it() -> None:
    assert time_after_beat(make_task(), make_policy(max_run_time_ns=30 * SECOND), NOW) == TimeBudget(
        run_ns=30 * SECOND,
        handler_ns=28 * SECOND,
        wait_ns=30 * SECOND,
        handler_deadline=after(28 * SECOND),
        at_deadline=False,
    )


@pytest.mark.rule("EXEC-26")
def test_a_beat_gives_no_time_past_the_tasks_own_deadline() -> None:
    task = make_task(deadline=after(10 * SECOND))
    assert time_after_beat(task, make_policy(), NOW) == time_budget(task, make_policy(), NOW)
    assert time_after_beat(task, make_policy(), NOW).at_deadline


def test_the_lease_is_renewed_by_thirds() -> None:
    assert renewal_ns(make_policy(lease_ns=30 * SECOND)) == 10 * SECOND
    assert renewal_ns(make_policy(lease_ns=10)) == 3


@pytest.mark.parametrize(
    ("held", "renews", "expected"),
    [
        pytest.param(15 * SECOND, True, False, id="half of it left: not yet"),
        pytest.param(15 * SECOND + 1, True, True, id="under half of it left: first renewed"),
        pytest.param(20 * SECOND, False, False, id="Go's queue: nothing is renewed"),
    ],
)
def test_a_lease_of_which_under_half_is_left_is_renewed_before_the_request(
    held: int, renews: bool, expected: bool
) -> None:
    assert renewal_due(make_policy(lease_ns=30 * SECOND, renews=renews), held) is expected


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        pytest.param({}, None, id="the store decides"),
        pytest.param({"complete": 5 * SECOND}, 5 * SECOND, id="so long"),
        pytest.param({"complete": 0}, 0, id="not at all"),
        pytest.param({"complete": 1}, SECOND, id="a server takes no less than a second"),
        pytest.param({"expired": 5 * SECOND}, None, id="another state's"),
    ],
)
def test_retention(retention: dict[str, int], expected: int | None) -> None:
    assert make_policy(retention=retention).ttl_ns("complete") == expected


def test_a_queue_without_settings() -> None:
    assert QueuePolicy("Q") == QueuePolicy(
        queue="Q",
        lease_ns=30 * SECOND,
        max_run_time_ns=MINUTE,
        max_tries=0,
        backoff=NAMED_BACKOFFS["default"],
        renews=True,
        retention={},
    )
