"""What follows from an attempt's outcome: `decide`, one case a row of the table of outcomes.

Two families. An attempt that counted ends the task or gives it a later try by the backoff; one that did not count puts
the task back as it was, for a short growing while.
"""

from __future__ import annotations

from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from ajc.duration import DAY, MILLISECOND, SECOND, format_duration
from ajc.instant import Instant
from ajc.task import Task
from ajc_bridge.decision.backoff import chance
from ajc_bridge.decision.lifecycle import Complete, Expire, PutBack, Retry, Terminate, apply
from ajc_bridge.decision.outcome import (
    Abandoned,
    Busy,
    Failed,
    Interrupted,
    Malformed,
    NoHeartbeat,
    NoResponder,
    Outcome,
    ResultTooLarge,
    Succeeded,
    TaskTooLarge,
    Terminated,
    TimedOut,
)
from ajc_bridge.decision.policy import QueuePolicy, cap
from ajc_bridge.decision.transition import Transition

MAX_RETRY_AFTER_NS: Final = 30 * DAY
FIRST_WAIT_NS: Final = SECOND
MAX_PARKED_NS: Final = 10 * SECOND
MAX_BUSY_NS: Final = 30 * SECOND
MOST_DOUBLINGS: Final = 10
"""Beyond every limit above a second: a count of waits without one would build huge numbers."""
SAVE_HEADERS: Final = 256
"""Bytes that a save's own headers (expected revision, age) may take."""
LETTER_HEADERS: Final = 1_024
"""Bytes that a dead letter's headers may take when its error is one of ours."""
ABANDONED_TEXT: Final = "attempt abandoned: its lease ended without a reply"


class Attempt(Struct, frozen=True):
    """One attempt: the task before it, the task as saved `active`, and how often in a row it was put back before."""

    before: Task
    active: Task
    waits: int = 0


def decide(attempt: Attempt, outcome: Outcome, policy: QueuePolicy, now: Instant) -> Transition:
    """Answer an outcome. `now` is when it came."""
    active = attempt.active
    match outcome:
        case Succeeded():
            return Transition.completed(apply(active, Complete(outcome.body), now), policy)
        case Failed():
            return _failed(active, outcome.text, policy, now, retry_after_ms=outcome.retry_after_ms)
        case Terminated():
            return _terminated(active, outcome.text, "terminated", policy, now)
        case TimedOut():
            text = f"no reply within {_to_milliseconds(outcome.waited_ns)}"
            if outcome.at_deadline:
                return _expired(active, text, "deadline", policy, now)
            return _failed(active, text, policy, now)
        case NoHeartbeat():
            return _failed(active, f"no heartbeat for {_to_milliseconds(outcome.silent_ns)}", policy, now)
        case Malformed():
            return _failed(active, f"malformed reply: {outcome.text}", policy, now)
        case NoResponder():
            delay = growing_ns(FIRST_WAIT_NS, attempt.waits, MAX_PARKED_NS)
            text = outcome.text or f"no responder on {outcome.subject}"
            return _put_back(attempt, outcome.word, text, now.plus(delay), now)
        case Busy():
            asked = _asked_ns(outcome.retry_after_ms)
            delay = _busy_ns(attempt) if asked is None else asked
            return _put_back(attempt, outcome.word, outcome.text, now.plus(delay), now)
        case Interrupted():
            task = apply(active, PutBack(attempt.before, "interrupted", None), now)
            if policy.max_deliver > 0:  # the server would count this delivery: a fresh item has all of them
                return Transition.later(outcome.word, task, now, waits=attempt.waits)
            return Transition.put_back(outcome.word, task)
        case ResultTooLarge():
            text = f"result of {outcome.size} bytes exceeds {outcome.limit}"
            return _terminated(active, text, outcome.word, policy, now)
        case TaskTooLarge():
            return _task_too_large(attempt.before, outcome, policy, now)
        case Abandoned():
            if tries_left(active, policy):
                return Transition.later("retry", apply(active, Retry(ABANDONED_TEXT, now), now), now, counted=True)
            return _expired(active, ABANDONED_TEXT, "tries", policy, now)
        case _:
            assert_never(outcome)


def _to_milliseconds(ns: int) -> str:
    return format_duration(ns // MILLISECOND * MILLISECOND)


def _busy_ns(attempt: Attempt) -> int:
    """Draw from 1 s up to 1 s more than the doubled wait, 30 s at most: what was refused together comes back apart."""
    spread = min(growing_ns(FIRST_WAIT_NS, attempt.waits, MAX_BUSY_NS), MAX_BUSY_NS - FIRST_WAIT_NS)
    # by the wait: a try that does not count stays the same, and with it one short draw would come for ever
    return FIRST_WAIT_NS + chance(attempt.active.id, attempt.waits, spread)


def tries_left(task: Task, policy: QueuePolicy) -> bool:
    """Say whether the cap allows one more counted attempt."""
    most = cap(task, policy)
    return most == 0 or task.tries < most


def growing_ns(first_ns: int, waits: int, most_ns: int) -> int:
    """Give `first_ns`, doubled for each wait before this one, `most_ns` at most."""
    return min(first_ns << min(waits, MOST_DOUBLINGS), most_ns)


def not_after_deadline(at: Instant, task: Task, now: Instant) -> Instant:
    """Move an item that would come after the task's deadline to the deadline, so that it expires on time."""
    return at if task.deadline is None or at <= task.deadline else max(task.deadline, now)


def _failed(
    active: Task, text: str, policy: QueuePolicy, now: Instant, *, retry_after_ms: int | None = None
) -> Transition:
    if not tries_left(active, policy):
        return _expired(active, text, "tries", policy, now)
    delay = _asked_ns(retry_after_ms)
    if delay is None:
        delay = policy.backoff.delay_ns(active.id, active.tries)
    at = not_after_deadline(now.plus(delay), active, now)
    return Transition.later("retry", apply(active, Retry(text, at), now), at, counted=True)


def _expired(active: Task, text: str, reason: str, policy: QueuePolicy, now: Instant) -> Transition:
    return Transition.ended(reason, apply(active, Expire(text, reason), now), policy, now, counted=True)


def _terminated(active: Task, text: str, reason: str, policy: QueuePolicy, now: Instant) -> Transition:
    return Transition.ended(reason, apply(active, Terminate(text, reason), now), policy, now, counted=True)


def _put_back(attempt: Attempt, word: str, text: str, at: Instant, now: Instant) -> Transition:
    at = not_after_deadline(at, attempt.active, now)
    task = apply(attempt.active, PutBack(attempt.before, text, at), now)
    return Transition.later(word, task, at, waits=attempt.waits + 1)


def _asked_ns(retry_after_ms: int | None) -> int | None:
    """Give the delay that the responder asked for; one that makes no sense is none."""
    if retry_after_ms is None or retry_after_ms < 0:
        return None
    return min(retry_after_ms * MILLISECOND, MAX_RETRY_AFTER_NS)


def _task_too_large(before: Task, outcome: TaskTooLarge, policy: QueuePolicy, now: Instant) -> Transition:
    """Terminate it where that fits, else the dead letter alone is its end, with an empty body when it must be."""
    text = f"task of {outcome.size} bytes exceeds {outcome.limit}"
    task = apply(before, Terminate(text, outcome.word), now)
    ended = Transition.ended(outcome.word, task, policy, now)
    size = len(task.encode())
    limit = outcome.store_limit or outcome.limit
    if size + LETTER_HEADERS <= limit:
        return ended
    assert ended.dead_letter is not None
    letter = ended.dead_letter.emptied()
    if size + SAVE_HEADERS <= limit:
        return replace(ended, dead_letter=letter)
    return Transition(reason=outcome.word, dead_letter=letter)
