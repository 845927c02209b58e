"""A task without an item: evicted, orphaned, or nothing to do."""

from __future__ import annotations

from typing import Any

import pytest
from decision_cases import EARLIER, MINUTE, NOW, SECOND, Answer, Letter, after, make_policy, make_record, make_task

from ajc.task import Task
from ajc_bridge.decision.admission import Record
from ajc_bridge.decision.rescue import rescue

RUN_TIME = 10 * MINUTE
ABANDONED = "attempt abandoned: its lease ended without a reply"
FINAL = ["complete", "expired", "terminated", "queue_error", "unreachable"]
EVICTED = Answer(
    reason="queue_error",
    saved={"state": "queue_error", "last_err": "evicted by discard_old", "dead_letter": "queue_error"},
    letter=Letter("queue_error", "evicted by discard_old"),
)


def active(tries: int = 1) -> Task:
    return make_task("active", tries=tries, tried=EARLIER)


def answer(record: Record, *, evicting: bool, **policy: Any) -> Answer | None:
    transition = rescue(record, make_policy(evicts=evicting, **policy), NOW)
    return transition and Answer.of(transition, record.task)


@pytest.mark.parametrize("state", ["new", "", "retry", "blocked"])
def test_evicted_is_queue_error_with_a_dead_letter(state: str) -> None:
    assert answer(make_record(make_task(state), age=MINUTE), evicting=True) == EVICTED


def test_evicted_is_kept_by_its_state() -> None:
    found = answer(make_record(make_task(), age=MINUTE), evicting=True, retention={"queue_error": MINUTE})
    assert found is not None
    assert found.ttl == MINUTE


TOO_OLD = "older than the queue's max_age of 1h30m"
AGE = 90 * MINUTE


@pytest.mark.parametrize("evicting", [True, False])
def test_what_is_as_old_as_the_queue_keeps_its_items_is_said_to_be_too_old(evicting: bool) -> None:
    found = answer(make_record(make_task(), age=AGE), evicting=evicting, max_age_ns=AGE)
    assert found is not None
    assert (found.reason, found.letter) == ("queue_error", Letter("queue_error", TOO_OLD))


def test_no_age_is_too_short_to_count() -> None:
    found = answer(make_record(make_task(), age=MINUTE), evicting=False, max_age_ns=1)
    assert found is not None
    assert found.reason == "queue_error"


def test_what_is_younger_was_lost_by_its_producer_and_gets_an_item() -> None:
    record = make_record(make_task(), age=AGE - 1)
    assert answer(record, evicting=False, max_age_ns=AGE) == Answer(reason="requeued", after=(0, 0))
    assert answer(record, evicting=True, max_age_ns=AGE) == EVICTED


def test_the_item_of_a_retry_is_as_old_as_its_schedule() -> None:
    def late(by: int) -> Record:
        return make_record(make_task("retry", next_try_at=after(-by)), age=10 * AGE)

    assert answer(late(AGE - 1), evicting=False, max_age_ns=AGE) == Answer(reason="requeued", after=(0, 0))
    found = answer(late(AGE), evicting=False, max_age_ns=AGE)
    assert found is not None
    assert found.reason == "queue_error"
    # saved again since: its item came later than that
    record = make_record(make_task("retry", next_try_at=after(-AGE)), age=AGE - 1)
    assert answer(record, evicting=False, max_age_ns=AGE) == Answer(reason="requeued", after=(0, 0))


@pytest.mark.parametrize("state", [*FINAL, "paused"])
@pytest.mark.parametrize("evicting", [True, False])
def test_a_task_that_is_over_or_unknown_is_left_alone(state: str, evicting: bool) -> None:
    assert answer(make_record(make_task(state), age=10**18), evicting=evicting) is None


@pytest.mark.parametrize("record", [make_record(None, age=10**18), make_record(make_task(id="other"), age=10**18)])
def test_a_record_that_cannot_be_read_or_is_another_tasks_is_left_alone(record: Record) -> None:
    assert answer(record, evicting=True) is None


@pytest.mark.parametrize("evicting", [True, False])
@pytest.mark.parametrize("state", ["new", "", "retry", "blocked"])
def test_an_item_may_be_on_its_way_for_a_minute(state: str, evicting: bool) -> None:
    assert answer(make_record(make_task(state), age=MINUTE - 1), evicting=evicting) is None


@pytest.mark.parametrize("state", ["new", "", "retry", "blocked"])
def test_a_lost_item_is_made_again(state: str) -> None:
    assert answer(make_record(make_task(state), age=MINUTE), evicting=False) == Answer(reason="requeued", after=(0, 0))


@pytest.mark.parametrize("evicting", [True, False])
def test_a_lost_schedule_is_made_again(evicting: bool) -> None:
    record = make_record(make_task("retry", next_try_at=after(SECOND)), age=MINUTE)
    assert answer(record, evicting=evicting) == Answer(reason="rescheduled", after=(SECOND, 0))


def test_a_retry_that_is_due_had_an_item() -> None:
    record = make_record(make_task("retry", next_try_at=NOW, last_err="500"), age=MINUTE)
    assert answer(record, evicting=False) == Answer(reason="requeued", after=(0, 0))
    found = answer(record, evicting=True)
    assert found is not None
    assert found.saved == {
        "state": "queue_error",
        "last_err": "evicted by discard_old",
        "dead_letter": "queue_error",
        "next_try_at": None,
    }


@pytest.mark.parametrize("evicting", [True, False])
def test_an_active_task_without_an_item_is_abandoned_after_twice_its_run_time(evicting: bool) -> None:
    age = 2 * RUN_TIME + MINUTE
    assert answer(make_record(active(), age=age - 1), evicting=evicting) is None
    assert answer(make_record(active(), age=age), evicting=evicting) == Answer(
        reason="retry",
        saved={"state": "retry", "last_err": ABANDONED, "next_try_at": NOW},
        after=(0, 0),
        counted=True,
    )
    assert answer(make_record(active(5), age=age), evicting=evicting) == Answer(
        reason="tries",
        saved={"state": "expired", "last_err": ABANDONED, "dead_letter": "tries"},
        letter=Letter("tries", ABANDONED, 5),
        counted=True,
    )
