"""What becomes of a task whose item is gone while the task is not final: evicted, or lost between two writes.

An item that is still stored but will not be delivered again is no matter for this file: it goes through `admit` as
`Arrival(exhausted=True)`. The caller has made sure that there is neither an item nor a schedule for the task, looking
for them before it read the record: then a later save of somebody else makes this one fail by its revision.
"""

from __future__ import annotations

from typing import Final

from ajc.duration import MINUTE, format_duration
from ajc.instant import Instant
from ajc_bridge.decision.admission import Record
from ajc_bridge.decision.lifecycle import ACTIVE, FINAL, KNOWN, Refuse, apply
from ajc_bridge.decision.outcome import Abandoned
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.settlement import Attempt, decide
from ajc_bridge.decision.transition import Transition

GRACE_NS: Final = MINUTE
"""A producer writes the task first and its item next: a younger record may be one whose item is on its way."""
EVICTED_TEXT: Final = "evicted by discard_old"


def rescue(record: Record, policy: QueuePolicy, now: Instant) -> Transition | None:
    """Say what to do about a task without an item; None when there is nothing to do (yet)."""
    task = record.task
    if task is None or task.id != record.task_id or task.state in FINAL or task.state not in KNOWN:
        return None
    age = now - record.stored_at
    if task.state == ACTIVE:
        # The attempt may be running: beats give it more time, but each of its bridge's saves makes the record younger.
        if age < 2 * policy.max_run_time_ns + GRACE_NS:
            return None
        return decide(Attempt(task, task), Abandoned(), policy, now)
    if age < GRACE_NS:
        return None
    due = task.next_try_at
    if due is not None and due > now:
        return Transition.later("rescheduled", None, due)
    text = _let_go(record.stored_at if due is None else max(record.stored_at, due), policy, now)
    if text:
        return Transition.ended("queue_error", apply(task, Refuse(text), now), policy, now)
    return Transition.later("requeued", None, now)


def _let_go(came: Instant, policy: QueuePolicy, now: Instant) -> str:
    """Say why the queue let an item go that came then; "" when it has no reason to: then there never was one.

    A full queue (`evicts`) may have let go of any, and nobody can tell.
    """
    if 0 < policy.max_age_ns <= now - came:
        return f"older than the queue's max_age of {format_duration(policy.max_age_ns)}"
    return EVICTED_TEXT if policy.evicts else ""
