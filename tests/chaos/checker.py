"""Reads a history and says what is wrong with it: one named violation a fault, none for a run that kept its promises.

The rules are written from the specification alone. A crash may cost a counted try that did not run, and a stopped
clock an attempt that is made again; it may never cost a task, a result, a dead letter or the truth of the count.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from chaos.history import (
    Cancel,
    Event,
    Fault,
    History,
    Letter,
    Plan,
    Reply,
    Request,
    Revision,
    by_task,
    digest,
    task_of,
)

FINAL = frozenset({"complete", "expired", "terminated", "queue_error", "unreachable"})
STEPS = frozenset(
    {
        ("", "new"),
        ("new", "active"),
        ("retry", "active"),
        ("active", "active"),  # abandoned, and run again
        ("active", "new"),  # put back, uncounted
        ("active", "retry"),
        ("active", "complete"),
        ("active", "expired"),
        ("active", "terminated"),
        ("new", "expired"),
        ("retry", "expired"),
        ("new", "terminated"),
        ("retry", "terminated"),
        ("new", "queue_error"),
    }
)
REASONS = {
    "terminated": frozenset({"terminated", "result_too_large", "task_too_large", "invalid_type"}),
    "expired": frozenset({"tries", "deadline"}),
    "queue_error": frozenset({"queue_error"}),
    "unreachable": frozenset({"unreachable"}),
}
UNCOUNTED_TEXTS = ("no responder on ", "interrupted")
OWN_TEXTS = ("no reply within ", "malformed reply: ", "attempt abandoned", "deadline passed", "tries used up")

HALF_MARGIN_NS = 1_000_000_000


class Violation(NamedTuple):
    rule: str
    task: str
    text: str


class Step(NamedTuple):
    """One revision beside the one before it."""

    before: dict[str, Any] | None
    after: dict[str, Any]
    revision: Revision


class Case(NamedTuple):
    """All about one task."""

    task: str
    plan: Plan | None
    acknowledged: bool
    steps: list[Step]
    requests: list[Request]
    replies: list[Reply]
    cancels: list[Cancel]
    events: list[Event]
    letters: list[Letter]
    faults: tuple[Fault, ...]

    @property
    def last(self) -> dict[str, Any] | None:
        return self.steps[-1].after if self.steps else None


Rule = Callable[[Case], Iterator[tuple[str, str]]]


def check(history: History) -> list[Violation]:
    """Every violation, in the order of tasks; empty when all is well."""
    found: list[Violation] = []
    cases = {case.task: case for case in _cases(history, found)}
    for case in cases.values():
        for rule in RULES:
            found += [Violation(name, case.task, text) for name, text in rule(case)]
    for subject in history.items:
        found.append(Violation("orphan-item", task_of(subject), f"{subject} is still stored"))
    for subject in history.schedules:
        found.append(Violation("orphan-schedule", task_of(subject), f"{subject} is still stored"))
    for letter in history.letters:
        if task_of(letter.subject) not in cases:
            found.append(Violation("dead-letter-extra", task_of(letter.subject), "a dead letter of an unknown task"))
    return found


def _cases(history: History, found: list[Violation]) -> Iterator[Case]:
    plans = {plan.task: plan for plan in history.plans}
    revisions, requests, replies = by_task(history.revisions), by_task(history.requests), by_task(history.replies)
    cancels, events = by_task(history.cancels), by_task(history.events)
    letters: dict[str, list[Letter]] = {}
    for letter in history.letters:
        letters.setdefault(task_of(letter.subject), []).append(letter)
    for task in sorted(plans.keys() | revisions.keys() | requests.keys() | history.acknowledged):
        steps: list[Step] = []
        before: dict[str, Any] | None = None
        for revision in sorted(revisions.get(task, []), key=lambda one: one.sequence):
            try:
                after = json.loads(revision.data)
                assert isinstance(after, dict)
            except (ValueError, AssertionError):
                found.append(Violation("unreadable-record", task, repr(revision.data[:200])))
                break
            steps.append(Step(before, after, revision))
            before = after
        yield Case(
            task,
            plans.get(task),
            task in history.acknowledged,
            steps,
            requests.get(task, []),
            replies.get(task, []),
            cancels.get(task, []),
            events.get(task, []),
            letters.get(task, []),
            history.faults,
        )


# -- the store ---------------------------------------------------------------------------------------------------------


def kept(case: Case) -> Iterator[tuple[str, str]]:
    """An acknowledged task is stored, and ends; it ends once, and as planned."""
    finals = [step.after["state"] for step in case.steps if step.after.get("state") in FINAL]
    if len(finals) > 1:
        yield "several-finals", f"final states {finals}"
    if not case.acknowledged:
        return
    if not case.steps:
        yield "lost-task", "acknowledged, and not in the store"
        return
    assert case.last is not None
    state = case.last.get("state")
    if state not in FINAL:
        yield "not-final", f"left in state {state!r}"
    elif case.plan is not None and state not in case.plan.ends:
        yield "wrong-end", f"{state}, {case.last.get('last_err')!r}: planned was {sorted(case.plan.ends)}"


def transitions(case: Case) -> Iterator[tuple[str, str]]:
    """Each save follows from the one before it."""
    waiting, again = "new", False  # the state before the attempt under way; whether it follows an abandoned one
    for before, after, revision in case.steps:
        was, state = before["state"] if before else "", after.get("state")
        if (was, state) not in STEPS:
            yield "illegal-transition", f"#{revision.sequence}: {was!r} -> {state!r}"
        elif was == "active" and state == "new" and (waiting == "retry" or again):
            yield "illegal-transition", f"#{revision.sequence}: put back as new, which it was no more"
        again = (was, state) == ("active", "active") or (again and state == "active")
        if state in ("new", "retry"):
            waiting, again = state, False
    for key in ("id", "type", "queue", "payload", "created", "max_tries", "deadline"):
        values = {json.dumps(step.after.get(key)) for step in case.steps}
        if len(values) > 1:
            yield "changed-task", f"{key} had the values {sorted(values)}"


# -- counting ----------------------------------------------------------------------------------------------------------


def tries(case: Case) -> Iterator[tuple[str, str]]:
    """`tries` rises by one with each attempt, falls only with a put-back, and never passes the cap."""
    for before, after, revision in case.steps:
        was, has = (before or {}).get("tries", 0), after.get("tries", 0)
        state, earlier = after.get("state"), (before or {}).get("state")
        if state == "active":
            right = has == was + 1
        elif earlier == "active" and state in ("new", "retry"):
            right = has == was or (has == was - 1)
            if state == "new" and has == was:
                right = False
        else:
            right = has == was
        if not right:
            yield "tries-jump", f"#{revision.sequence}: {earlier} {was} -> {state} {has}"
        if case.plan is not None and 0 < case.plan.cap < has:
            yield "tries-above-cap", f"#{revision.sequence}: {has} of {case.plan.cap}"
    if case.plan is None or case.last is None:
        return
    if case.plan.tries is not None and not case.faults and case.last.get("tries") != case.plan.tries:
        yield "tries-wrong", f"{case.last.get('tries')}, planned were {case.plan.tries}"
    if case.last.get("state") == "expired" and not _late(case) and case.last.get("tries") != case.plan.cap:
        yield "gave-up-early", f"expired after {case.last.get('tries')} of {case.plan.cap} tries"


def _late(case: Case) -> bool:
    """Over, or so nearly that an attempt was given up for it: by half a margin, which is a second at most."""
    deadline = case.plan.deadline_ns if case.plan else None
    return deadline is not None and case.steps[-1].revision.at_ns >= deadline - HALF_MARGIN_NS


def attempts(case: Case) -> Iterator[tuple[str, str]]:
    """Each counted attempt ran, but for one a crash; each run was counted, once."""
    active = {digest(step.revision.data): step for step in case.steps if step.after.get("state") == "active"}
    started: dict[str, list[Request]] = {}
    for request in case.requests:
        started.setdefault(request.digest, []).append(request)
        step = active.get(request.digest)
        if step is None:
            yield "request-not-stored", f"try {request.try_number} at {request.responder}: its body was never saved"
        elif request.try_number != step.after.get("tries"):
            yield "request-wrong-try", f"AJ-Try {request.try_number}, stored {step.after.get('tries')}"
    unstarted = 0
    for number, (before, after, _) in enumerate(case.steps):
        if before is None or before.get("state") != "active":
            continue
        if after.get("tries") != before.get("tries") and after.get("state") != "active":
            continue  # put back: not counted
        of = digest(case.steps[number - 1].revision.data)
        if of not in started and "cancelled" not in after:  # cancelled before its request went out
            unstarted += 1
        if after["state"] == "active" and not case.faults:
            yield "abandoned-without-fault", f"try {before.get('tries')} was given up though nothing was killed"
    if unstarted > len(case.faults):
        yield "tries-not-run", f"{unstarted} counted tries never reached a responder, with {len(case.faults)} faults"
    for of, requests in started.items():
        busy = sum(reply.kind == "busy" and reply.digest == of for reply in case.replies)
        if len(requests) > 1 + busy and of in active:
            yield "attempt-twice", f"try {requests[0].try_number} was sent {len(requests)} times, {busy} were busy"


def outcomes(case: Case) -> Iterator[tuple[str, str]]:
    """A result, an error and a termination are what some reply of that try said."""
    for before, after, revision in case.steps:
        state = after.get("state")
        result = after.get("result")
        if (state == "complete") != (result is not None):
            yield "result-misplaced", f"#{revision.sequence}: state {state}, result {result!r}"
        if before is None or before.get("state") != "active":
            continue
        of_try = [reply for reply in case.replies if reply.try_number == before.get("tries")]
        text = after.get("last_err", "")
        if state == "complete":
            yield from _result(result, of_try, revision)
            if text:
                yield "stale-error", f"#{revision.sequence}: complete with last_err {text!r}"
        elif state == "terminated" and "cancelled" not in after:
            if not any(reply.kind == "terminate" and reply.text == text for reply in of_try):
                yield "outcome-not-replied", f"#{revision.sequence}: terminated with {text!r}"
        elif state in ("new", "retry") and after.get("tries") != before.get("tries"):
            busy = any(reply.kind == "busy" and reply.text == text for reply in of_try)
            if not busy and not text.startswith(UNCOUNTED_TEXTS):
                yield "uncounted-wrongly", f"#{revision.sequence}: put back with {text!r}"
        elif state in ("retry", "expired"):
            said = any(reply.kind == "error" and reply.text == text for reply in of_try)
            if not said and not text.startswith(OWN_TEXTS):
                yield "outcome-not-replied", f"#{revision.sequence}: {state} with {text!r}"


def _result(result: Any, replies: list[Reply], revision: Revision) -> Iterator[tuple[str, str]]:
    try:
        stored = base64.b64decode((result or {})["payload"], validate=True).decode()
    except (KeyError, TypeError, ValueError, binascii.Error):
        yield "result-unreadable", f"#{revision.sequence}: {result!r}"
        return
    if not any(reply.kind == "success" and reply.text == stored for reply in replies):
        yield "result-not-replied", f"#{revision.sequence}: {stored!r} was no reply of that try"


# -- cancels -----------------------------------------------------------------------------------------------------------


def cancels(case: Case) -> Iterator[tuple[str, str]]:
    """Only what was asked for is cancelled; whoever asked was told the truth; the record says who and why."""
    last = case.last or {}
    for _, after, revision in case.steps:
        if "cancelled" not in after:
            continue
        if case.plan is None or not case.plan.cancel:
            yield "cancelled-unasked", f"#{revision.sequence}: nobody asked for it"
        wrong = after.get("state") != "terminated" or not after.get("last_err", "").startswith("cancelled: ")
        if wrong or "next_try_at" in after or "dead_letter" in after:
            yield "cancel-record-wrong", f"#{revision.sequence}: {after}"
    for cancel in case.cancels:
        if cancel.said == "cancelled" and "cancelled" not in last:
            yield "cancel-lost", f"it was said to be cancelled, and is {last.get('state')}"
        elif cancel.said in FINAL and (last.get("state") != cancel.said or "cancelled" in last):
            told = "cancelled" if "cancelled" in last else last.get("state")
            yield "cancel-answer-wrong", f"it was said to be {cancel.said}, and is {told}"


# -- dead letters and events -------------------------------------------------------------------------------------------


def letters(case: Case) -> Iterator[tuple[str, str]]:
    """Exactly one dead letter for each failed end, holding that end; none for anything else."""
    state = (case.last or {}).get("state")
    reasons = frozenset() if "cancelled" in (case.last or {}) else REASONS.get(str(state), frozenset())
    if not case.letters:
        if reasons and (case.acknowledged or state != "queue_error"):
            yield "dead-letter-missing", f"{state} without one"
        return
    if not reasons:
        yield "dead-letter-extra", f"a dead letter for a task in state {state!r}"
        return
    if len(case.letters) > 1:
        yield "dead-letter-twice", f"{len(case.letters)} of them"
    assert case.last is not None
    for letter in case.letters:
        reason = letter.headers.get("aj-dlq-reason", "")
        if reason not in reasons:
            yield "dead-letter-wrong", f"reason {reason!r} for {state}"
        if reason == "deadline" and not _late(case):
            yield "dead-letter-wrong", "reason deadline, which had not passed"
        if reason == "tries" and case.plan is not None and case.last.get("tries") != case.plan.cap:
            yield "dead-letter-wrong", f"reason tries after {case.last.get('tries')} of {case.plan.cap}"
        if letter.body != case.steps[-1].revision.data:
            yield "dead-letter-wrong", "its body is not the task as finally saved"
        if letter.headers.get("aj-dlq-tries") != str(case.last.get("tries", 0)):
            yield "dead-letter-wrong", f"AJ-Dlq-Tries {letter.headers.get('aj-dlq-tries')}"
        if letter.headers.get("aj-task-id") != case.task:
            yield "dead-letter-wrong", f"AJ-Task-Id {letter.headers.get('aj-task-id')}"


def events(case: Case) -> Iterator[tuple[str, str]]:
    """An event tells of a save that happened; where nothing was killed, each save has its event."""
    saved = [(step.after.get("state"), step.after.get("tries", 0)) for step in case.steps]
    told: list[tuple[Any, Any]] = [(event.state, event.tries) for event in case.events]
    for one in sorted(set(told), key=str):
        if one not in saved:
            yield "event-without-save", f"{one[0]} tries {one[1]}"
        elif told.count(one) > saved.count(one) + _saved_alike(case, one[0]):
            yield "event-twice", f"{one[0]} tries {one[1]}: {told.count(one)} events, {saved.count(one)} saves"
    if not case.faults and case.events:
        for one in sorted(set(saved) - set(told), key=str):
            yield "event-missing", f"{one[0]} tries {one[1]}"


def _saved_alike(case: Case, state: str) -> int:
    """How many events more than saves there may be: one, where two bridges each took the same save for their own.

    A server that is killed or stands still leaves the first bridge's save without an answer, and the item comes to the
    second one. A record of these ends has no instant of either bridge: both write the same bytes, read them back, and
    tell of them.
    """
    if state not in ("expired", "terminated") or len(case.steps) < 2:
        return 0
    begin, end = case.steps[-2].revision.at_ns, max(event.at_ns for event in case.events)
    return int(any(fault.target == "server" and begin <= fault.at_ns <= end for fault in case.faults))


RULES: tuple[Rule, ...] = (kept, transitions, tries, attempts, outcomes, cancels, letters, events)
