"""The checker accepts what keeps the promises, and names each fault that is planted in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chaos.checker import check
from chaos.history import Cancel, Event, Fault, History, Letter, Reply, Request, Revision, digest, story
from chaos.model import lived

Plant = Callable[[History], History]


@given(seed=st.integers(0, 2**32), crashes=st.sampled_from([0.0, 0.2, 0.5]))
@settings(max_examples=60, deadline=None)
def test_a_history_that_keeps_every_promise_is_accepted(seed: int, crashes: float) -> None:
    history = lived(seed, crashes, each=3)
    # with many crashes a task of few tries may end early, as it must: its plan is then not the point
    plans = tuple(
        replace(plan, ends=plan.ends | {"expired"}) if plan.does == "fail" else plan for plan in history.plans
    )
    assert check(replace(history, plans=plans)) == []


def named(history: History) -> set[tuple[str, str]]:
    return {(violation.rule, violation.task) for violation in check(history)}


def records(history: History, task: str) -> list[Revision]:
    return [revision for revision in history.revisions if revision.task == task]


def rewrite(history: History, task: str, number: int, **keys: Any) -> History:
    """Change keys of a task's revision (None removes one), and what was sent of it: that is then the only fault."""
    old = records(history, task)[number]
    record = json.loads(old.data) | keys
    data = json.dumps({key: value for key, value in record.items() if value is not None}).encode()
    before, after = digest(old.data), digest(data)
    return replace(
        history,
        revisions=tuple(replace(one, data=data) if one is old else one for one in history.revisions),
        letters=tuple(replace(one, body=data) if one.body == old.data else one for one in history.letters),
        requests=tuple(replace(one, digest=after) if one.digest == before else one for one in history.requests),
        replies=tuple(replace(one, digest=after) if one.digest == before else one for one in history.replies),
    )


def without(history: History, task: str, number: int) -> History:
    """Take a revision away."""
    gone = records(history, task)[number]
    return replace(history, revisions=tuple(one for one in history.revisions if one is not gone))


def again(history: History, task: str, number: int) -> History:
    """Save a revision once more, at the end."""
    last = history.revisions[-1]
    copy = replace(records(history, task)[number], sequence=last.sequence + 1, at_ns=last.at_ns + 1)
    return replace(history, revisions=(*history.revisions, copy))


def letter_of(history: History, task: str, **changes: Any) -> History:
    def changed(letter: Letter) -> Letter:
        return replace(letter, **changes) if letter.subject.endswith(f".{task}") else letter

    return replace(history, letters=tuple(changed(letter) for letter in history.letters))


def only(things: tuple[Any, ...], keep: Callable[[Any], bool]) -> tuple[Any, ...]:
    return tuple(thing for thing in things if keep(thing))


def plain_letter(history: History, task: str, reason: str = "tries") -> History:
    headers = {"aj-dlq-reason": reason, "aj-dlq-tries": "1", "aj-task-id": task}
    letter = Letter(f"CHORIA_AJ.DLQ.Q.{task}", history.letters[-1].at_ns, headers, records(history, task)[-1].data)
    return replace(history, letters=(*history.letters, letter))


def told(history: History, task: str, said: str) -> History:
    """Tell whoever cancelled something else."""
    cancels = tuple(replace(one, said=said) if one.task == task else one for one in history.cancels)
    assert any(one.task == task for one in cancels)
    return replace(history, cancels=cancels)


ANOTHER_RESULT = base64.b64encode(b"made up").decode()
FAULTS: list[tuple[str, str, Plant]] = [
    (
        "lost-task",
        "ok0",
        lambda h: replace(h, revisions=only(h.revisions, lambda r: r.task != "ok0"), requests=(), events=()),
    ),
    ("not-final", "ok0", lambda h: without(h, "ok0", -1)),
    ("several-finals", "ok0", lambda h: again(h, "ok0", -1)),
    ("several-finals", "terminate0", lambda h: again(again(h, "terminate0", 1), "terminate0", 2)),
    ("wrong-end", "ok0", lambda h: replace(h, plans=tuple(replace(p, ends=frozenset({"expired"})) for p in h.plans))),
    ("illegal-transition", "ok0", lambda h: without(h, "ok0", 1)),
    ("illegal-transition", "terminate0", lambda h: again(h, "terminate0", 1)),
    ("illegal-transition", "busy0", lambda h: rewrite(h, "busy0", 2, state="complete")),
    ("illegal-transition", "recover0", lambda h: rewrite(h, "recover0", 4, state="new", tries=1)),
    ("changed-task", "ok0", lambda h: rewrite(h, "ok0", 2, payload="e319")),
    ("changed-task", "recover0", lambda h: rewrite(h, "recover0", 2, max_tries=2)),
    ("unreadable-record", "ok0", lambda h: replace(h, revisions=tuple(replace(r, data=b"{") for r in h.revisions))),
    ("tries-jump", "ok0", lambda h: rewrite(h, "ok0", 1, tries=2)),
    ("tries-jump", "ok0", lambda h: rewrite(h, "ok0", 2, tries=0)),
    ("tries-jump", "busy0", lambda h: rewrite(h, "busy0", 2, tries=1)),
    ("tries-above-cap", "fail0", lambda h: replace(h, plans=tuple(replace(p, cap=2) for p in h.plans))),
    ("tries-wrong", "recover0", lambda h: replace(h, plans=tuple(replace(p, tries=7) for p in h.plans))),
    ("gave-up-early", "fail0", lambda h: replace(h, plans=tuple(replace(p, cap=4) for p in h.plans))),
    (
        "tries-not-run",
        "recover0",
        lambda h: replace(h, requests=only(h.requests, lambda r: r.task != "recover0" or r.try_number == 3)),
    ),
    (
        "tries-not-run",
        "recover0",
        lambda h: replace(
            h, requests=only(h.requests, lambda r: r.task != "recover0"), faults=(Fault(0, "kill", "bridge"),) * 2
        ),
    ),
    ("request-not-stored", "ok0", lambda h: replace(h, requests=(*h.requests, Request("ok0", 1, "r1", 1, "unsaved")))),
    ("request-wrong-try", "ok0", lambda h: replace(h, requests=tuple(replace(r, try_number=9) for r in h.requests))),
    ("attempt-twice", "ok0", lambda h: replace(h, requests=(*h.requests, *h.requests))),
    (
        "result-not-replied",
        "ok0",
        lambda h: rewrite(h, "ok0", -1, result={"payload": ANOTHER_RESULT, "completed": "x"}),
    ),
    ("result-not-replied", "ok0", lambda h: replace(h, replies=only(h.replies, lambda r: r.task != "ok0"))),
    (
        "result-not-replied",
        "recover0",
        lambda h: replace(h, replies=tuple(replace(r, try_number=1) for r in h.replies)),
    ),
    ("result-unreadable", "ok0", lambda h: rewrite(h, "ok0", -1, result={"payload": "%%", "completed": "x"})),
    ("result-misplaced", "ok0", lambda h: rewrite(h, "ok0", -1, result=None)),
    (
        "result-misplaced",
        "fail0",
        lambda h: rewrite(h, "fail0", -1, result={"payload": ANOTHER_RESULT, "completed": "x"}),
    ),
    ("stale-error", "ok0", lambda h: rewrite(h, "ok0", -1, last_err="old")),
    ("outcome-not-replied", "fail0", lambda h: rewrite(h, "fail0", 2, last_err="made up")),
    ("outcome-not-replied", "terminate0", lambda h: rewrite(h, "terminate0", -1, last_err="made up")),
    ("uncounted-wrongly", "busy0", lambda h: rewrite(h, "busy0", 2, last_err="made up")),
    ("dead-letter-missing", "fail0", lambda h: replace(h, letters=())),
    ("dead-letter-missing", "terminate0", lambda h: replace(h, letters=h.letters[1:])),
    ("dead-letter-extra", "ok0", lambda h: plain_letter(h, "ok0")),
    ("dead-letter-extra", "nobody", lambda h: letter_of(h, "fail0", subject="CHORIA_AJ.DLQ.Q.nobody")),
    ("dead-letter-twice", "fail0", lambda h: replace(h, letters=(*h.letters, *h.letters))),
    ("dead-letter-wrong", "fail0", lambda h: letter_of(h, "fail0", body=b"{}")),
    ("dead-letter-wrong", "fail0", lambda h: letter_of(h, "fail0", headers=h.letters[0].headers)),
    (
        "dead-letter-wrong",
        "fail0",
        lambda h: letter_of(h, "fail0", headers=h.letters[1].headers | {"aj-dlq-reason": "deadline"}),
    ),
    (
        "dead-letter-wrong",
        "fail0",
        lambda h: letter_of(h, "fail0", headers=h.letters[1].headers | {"aj-dlq-tries": "2"}),
    ),
    (
        "dead-letter-wrong",
        "deadline0",
        lambda h: letter_of(h, "deadline0", headers=h.letters[2].headers | {"aj-dlq-reason": "tries"}),
    ),
    ("cancelled-unasked", "ok0", lambda h: rewrite(h, "ok0", -1, cancelled="x")),
    (
        "cancelled-unasked",
        "cancel0",
        lambda h: replace(h, plans=tuple(replace(p, cancel=False) for p in h.plans)),
    ),
    ("cancel-record-wrong", "cancel0", lambda h: rewrite(h, "cancel0", -1, last_err="cancelled")),
    ("cancel-record-wrong", "cancel0", lambda h: rewrite(h, "cancel0", -1, next_try_at="x")),
    ("cancel-record-wrong", "cancel0", lambda h: rewrite(h, "cancel0", -1, dead_letter="terminated")),
    ("cancel-record-wrong", "cancel0", lambda h: rewrite(h, "cancel0", -1, state="expired")),
    ("cancel-lost", "cancel0", lambda h: without(h, "cancel0", -1)),
    ("cancel-lost", "cancel0", lambda h: rewrite(h, "cancel0", -1, cancelled=None)),
    ("cancel-lost", "too_late0", lambda h: told(h, "too_late0", "cancelled")),
    ("cancel-answer-wrong", "too_late0", lambda h: told(h, "too_late0", "expired")),
    ("cancel-answer-wrong", "cancel0", lambda h: told(h, "cancel0", "complete")),
    ("cancel-answer-wrong", "cancel0", lambda h: told(h, "cancel0", "terminated")),
    ("outcome-not-replied", "cancel0", lambda h: rewrite(h, "cancel0", -1, cancelled=None)),
    ("tries-jump", "cancel0", lambda h: rewrite(h, "cancel0", -1, tries=7)),
    ("dead-letter-extra", "cancel0", lambda h: plain_letter(h, "cancel0", "terminated")),
    ("several-finals", "cancel0", lambda h: again(h, "cancel0", -1)),
    ("orphan-item", "cancel0", lambda h: replace(h, items=("CHORIA_AJ.Q.Q.cancel0",))),
    ("orphan-item", "ok0", lambda h: replace(h, items=("CHORIA_AJ.Q.Q.ok0",))),
    ("orphan-schedule", "recover0", lambda h: replace(h, schedules=("CHORIA_AJ.D.S.Q.recover0",))),
    ("event-without-save", "ok0", lambda h: replace(h, events=(*h.events, Event("ok0", 1, "expired", 1)))),
    ("event-twice", "ok0", lambda h: replace(h, events=(*h.events, Event("ok0", 1, "complete", 1)))),
    (
        "event-missing",
        "ok0",
        lambda h: replace(h, events=only(h.events, lambda e: (e.task, e.state) != ("ok0", "complete"))),
    ),
]


@pytest.mark.parametrize(
    ("rule", "task", "plant"), FAULTS, ids=[f"{number}-{one[0]}" for number, one in enumerate(FAULTS)]
)
def test_a_planted_fault_is_named(rule: str, task: str, plant: Plant) -> None:
    history = lived(1)
    assert check(history) == []
    assert (rule, task) in named(plant(history))


def test_an_abandoned_attempt_needs_a_fault_to_explain_it() -> None:
    crashed = next(history for seed in range(100) if (history := lived(seed, 0.3)).faults)
    assert "abandoned-without-fault" not in {rule for rule, _ in named(crashed)}
    assert "abandoned-without-fault" in {rule for rule, _ in named(replace(crashed, faults=()))}


def end_told_twice(state: str, task: str, target: str, *, early: bool = False) -> set[tuple[str, str]]:
    history = lived(1)
    at = [one.at_ns for one in history.revisions if one.task == task]
    last = next(event for event in history.events if event.task == task and event.state == state)
    again = Event(task, last.at_ns + 2, state, last.tries)
    fault = Fault(at[0] if early else at[-2] + 1, "kill", target)
    return named(replace(history, events=(*history.events, again), faults=(fault,)))


def test_an_end_that_two_bridges_saved_alike_is_told_twice_where_a_server_gave_no_answer() -> None:
    assert end_told_twice("terminated", "terminate0", "server") == set()
    assert end_told_twice("expired", "fail0", "server") == set()
    twice = {("event-twice", "terminate0")}
    assert end_told_twice("terminated", "terminate0", "bridge") == twice
    assert end_told_twice("terminated", "terminate0", "server", early=True) == twice
    assert end_told_twice("complete", "ok0", "server") == {("event-twice", "ok0")}


def test_a_task_that_was_not_acknowledged_may_be_missing_or_left_behind() -> None:
    history = lived(1)
    gone = replace(history, acknowledged=history.acknowledged - {"ok0"})
    gone = replace(gone, revisions=only(gone.revisions, lambda r: r.task != "ok0"))
    gone = replace(gone, requests=only(gone.requests, lambda r: r.task != "ok0"))
    gone = replace(gone, events=only(gone.events, lambda e: e.task != "ok0"))
    assert check(gone) == []


def test_a_late_reply_to_an_abandoned_attempt_is_no_fault() -> None:
    history = lived(1)
    late = Reply("recover0", history.revisions[-1].at_ns, "r2", 1, "success", "too late", "whatever")
    assert check(replace(history, replies=(*history.replies, late))) == []


@pytest.mark.parametrize("task", ["cancel0", "too_late0"])
def test_who_got_no_answer_may_find_either_end(task: str) -> None:
    assert check(told(lived(1), task, "unknown")) == []
    history = lived(1)
    both = (*history.cancels, *(Cancel(one.task, one.at_ns + 1, one.said) for one in history.cancels))
    assert check(replace(history, cancels=both)) == []  # cancelled twice: the same answer


def test_the_story_of_a_task_tells_what_was_seen_in_order() -> None:
    history = replace(lived(1), items=("CHORIA_AJ.Q.Q.fail0",))
    text = story(history, "fail0")
    assert (
        text.index('"state": "new"') < text.index("request  try 1") < text.index("error 'bad 1'") < text.index("letter")
    )
    assert "left     CHORIA_AJ.Q.Q.fail0" in text
    assert "acknowledged: True" in text
