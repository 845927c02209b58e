"""The table of legal steps, whole; and what each step writes."""

from __future__ import annotations

from itertools import product

import pytest
from decision_cases import EARLIER, ID, NOW, after, make_task

from ajc.cancel_by_hand import cancel_reason, cancel_text, cancelled, is_cancelled
from ajc.errors import AjcError, Conflict, InvalidValue
from ajc.retry_by_hand import retried
from ajc.task import FINAL_STATES, Result, TaskState
from ajc_bridge.decision.lifecycle import (
    CREATED,
    FINAL,
    KNOWN,
    LEGAL,
    Change,
    Complete,
    Expire,
    IllegalTransition,
    PutBack,
    Refuse,
    Retry,
    Start,
    Step,
    Terminate,
    _each,
    apply,
)

UNFINISHED = ["", "new", "retry", "active", "blocked"]
FINISHED = ["complete", "expired", "terminated", "queue_error", "unreachable"]

CHANGES: dict[str, tuple[Change, list[str], str]] = {
    "run": (Start(), ["", "new", "retry", "active"], "active"),
    "complete": (Complete(b"x"), ["active"], "complete"),
    "retry": (Retry("x", NOW), ["active"], "retry"),
    "put back as new": (PutBack(make_task("new"), "x", None), ["active"], "new"),
    "put back as retry": (PutBack(make_task("retry"), "x", None), ["active"], "retry"),
    "put back as the empty state": (PutBack(make_task(""), "x", None), ["active"], ""),
    "put back after an abandoned attempt": (PutBack(make_task("active"), "x", None), ["active"], "retry"),
    "put back as blocked": (PutBack(make_task("blocked"), "x", None), [], "blocked"),
    "put back as final": (PutBack(make_task("expired"), "x", None), [], "expired"),
    "expire": (Expire("x", "tries"), UNFINISHED, "expired"),
    "terminate": (Terminate("x", "terminated"), UNFINISHED, "terminated"),
    "refuse": (Refuse("x"), ["", "new", "retry", "blocked"], "queue_error"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("state", [*UNFINISHED, *FINISHED, "paused"])
def test_only_the_steps_of_the_table_are_taken(name: str, state: str) -> None:
    change, befores, after_ = CHANGES[name]
    task = make_task(state)
    if state in befores:
        assert apply(task, change, NOW).state == after_
        return
    with pytest.raises(IllegalTransition) as caught:
        apply(task, change, NOW)
    assert isinstance(caught.value, AjcError)
    assert str(caught.value) == f"task {ID}: no step {str(change.step)!r} leads from {state!r} to {after_!r}"


def test_a_final_state_is_left_by_an_explicit_retry_alone() -> None:
    leaving = {(step, before) for step, befores in LEGAL.items() for before in befores if before in FINAL}
    assert leaving == {(Step.RETRY_BY_ID, state) for state in FINAL}
    assert set(FINISHED) == FINAL == FINAL_STATES


def test_the_table_knows_every_state_and_every_step() -> None:
    befores = {before for rows in LEGAL.values() for before in rows}
    afters = {after_ for rows in LEGAL.values() for afters in rows.values() for after_ in afters}
    assert befores | afters | CREATED == KNOWN == set(TaskState)
    assert set(LEGAL) | {Step.CREATE} == set(Step)
    assert {"new", "blocked"} == CREATED


def test_the_table_holds_no_more_than_these_tests_say() -> None:
    expected = {
        (str(change.step), before, after_) for change, befores, after_ in CHANGES.values() for before in befores
    }
    expected |= {("cancel", before, "terminated") for before in UNFINISHED}
    expected |= {("retry by id", before, "retry") for before in [*FINISHED, "retry"]}
    table = {
        (str(step), before, after_)
        for step, rows in LEGAL.items()
        for before, afters in rows.items()
        for after_ in afters
    }
    assert table == expected


def test_rows_with_the_same_ends_are_written_as_one() -> None:
    assert _each(frozenset({"a", "b"}), "c", "d") == {"a": {"c", "d"}, "b": {"c", "d"}}


def test_the_table_cannot_be_changed() -> None:
    for step, state in product([Step.RUN], ["new"]):
        with pytest.raises(TypeError):
            LEGAL[step] = {}  # type: ignore[index]
        with pytest.raises(TypeError):
            LEGAL[step][state] = frozenset()  # type: ignore[index]


FULL = make_task(
    "active",
    tries=3,
    tried=EARLIER,
    last_err="before",
    next_try_at=EARLIER,
    result=Result.of_bytes(b"old", EARLIER),
    dead_letter="tries",
    cancelled=EARLIER,
)


def test_run_writes() -> None:
    assert apply(FULL, Start(), NOW) == FULL.replace(tries=4, tried=NOW, last_err="", next_try_at=None)


def test_complete_writes() -> None:
    assert apply(FULL, Complete(b"new"), NOW) == FULL.replace(
        state="complete", result=Result.of_bytes(b"new", NOW), last_err="", next_try_at=None
    )


def test_retry_writes() -> None:
    assert apply(FULL, Retry("500", after(7)), NOW) == FULL.replace(state="retry", last_err="500", next_try_at=after(7))


def test_put_back_writes() -> None:
    before = make_task("retry", tries=2, tried=EARLIER.plus(-9))
    assert apply(FULL, PutBack(before, "busy", after(7)), NOW) == FULL.replace(
        state="retry", tries=2, tried=EARLIER.plus(-9), last_err="busy", next_try_at=after(7)
    )


def test_expire_writes() -> None:
    assert apply(FULL, Expire("late", "deadline"), NOW) == FULL.replace(
        state="expired", last_err="late", next_try_at=None, dead_letter="deadline"
    )


def test_terminate_writes() -> None:
    assert apply(FULL, Terminate("no", "terminated"), NOW) == FULL.replace(
        state="terminated", last_err="no", next_try_at=None, dead_letter="terminated"
    )


def test_refuse_writes() -> None:
    task = FULL.replace(state="new")
    assert apply(task, Refuse("full"), NOW) == task.replace(
        state="queue_error", last_err="full", next_try_at=None, dead_letter="queue_error"
    )


@pytest.mark.parametrize("state", [*UNFINISHED, *FINISHED, "paused"])
def test_a_cancel_keeps_to_the_table(state: str) -> None:
    task = FULL.replace(state=state)
    afters = LEGAL[Step.CANCEL].get(state)
    if afters is None:
        with pytest.raises(Conflict, match=state) as caught:
            cancelled(task, "cancelled", NOW)
        assert caught.value.task == task
        return
    assert afters == {cancelled(task, "cancelled", NOW).state}


def test_a_cancel_writes_the_instant_and_no_dead_letter_and_keeps_the_tries() -> None:
    task = FULL.replace(cancelled=None)
    after_ = cancelled(task, "cancelled: mistake", NOW)
    assert after_ == task.replace(
        state="terminated", last_err="cancelled: mistake", next_try_at=None, cancelled=NOW, dead_letter=""
    )
    assert is_cancelled(after_)
    assert not is_cancelled(task.replace(state="terminated"))
    assert cancel_reason(after_) == "mistake"


@pytest.mark.parametrize(
    ("reason", "text"),
    [("", "cancelled"), (" \n ", "cancelled"), (" a\x00b\n", "cancelled: ab"), ("\ud800", "cancelled: \ufffd")],
)
def test_the_reason_is_cleaned_as_every_stored_text(reason: str, text: str) -> None:
    assert cancel_text(reason) == text


def test_the_reason_is_cut_and_must_be_a_text() -> None:
    assert len(cancel_text("ä" * 5_000).encode()) <= 4_096
    assert cancel_text("ä" * 5_000).endswith("…")
    with pytest.raises(InvalidValue):
        cancel_text(b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [*UNFINISHED, *FINISHED, "paused"])
def test_a_retry_by_hand_keeps_to_the_table(state: str) -> None:
    task = FULL.replace(state=state)
    afters = LEGAL[Step.RETRY_BY_ID].get(state)
    if afters is None:
        with pytest.raises(Conflict):
            retried(task, "OTHER", 0, None, NOW)
        return
    assert afters == {retried(task, "OTHER", 0, None, NOW).state}


def test_a_retry_by_hand_clears_the_result_and_keeps_tries_and_last_err() -> None:
    task = FULL.replace(state="expired")
    assert retried(task, "OTHER", 0, None, NOW) == task.replace(
        state="retry", queue="OTHER", result=None, next_try_at=None, cancelled=None, dead_letter=""
    )


@pytest.mark.parametrize(
    ("own", "queue_s", "tries", "left"), [(3, 0, 3, 0), (3, 0, 2, 2), (0, 2, 2, 0), (5, 2, 2, 0), (0, 0, 9, 9)]
)
def test_tries_that_were_used_up_start_again(own: int, queue_s: int, tries: int, left: int) -> None:
    assert retried(make_task("expired", max_tries=own, tries=tries), "Q", queue_s, None, NOW).tries == left


def test_a_retry_by_hand_has_its_own_deadline_or_a_new_one() -> None:
    task = make_task("expired", deadline=NOW)
    with pytest.raises(Conflict, match="deadline"):
        retried(task, "Q", 0, None, NOW)
    with pytest.raises(Conflict, match="deadline"):
        retried(task, "Q", 0, NOW, NOW)
    assert retried(task, "Q", 0, after(1), NOW).deadline == after(1)
    assert retried(task.replace(deadline=after(1)), "Q", 0, None, NOW).deadline == after(1)
