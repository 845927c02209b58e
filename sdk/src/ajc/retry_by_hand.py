"""The one step out of a final state: somebody asks for the task again. What it may be asked of, and what it writes."""

from __future__ import annotations

from typing import Final

from ajc.errors import Conflict
from ajc.instant import Instant
from ajc.task import FINAL_STATES, Task, TaskState

RETRIED_FROM: Final[frozenset[str]] = frozenset(str(state) for state in FINAL_STATES) | {TaskState.RETRY.value}
"""The states that a retry by hand leads out of. From `retry`: it runs now, not later."""

_REASONS: Final = {
    TaskState.ACTIVE.value: "runs now; wait for its end",
    TaskState.BLOCKED.value: "waits for other tasks, and runs after them",
    TaskState.NEW.value: "is queued already",
    TaskState.UNKNOWN.value: "is queued already",
}


def retried(task: Task, queue: str, queue_max_tries: int, deadline: Instant | None, now: Instant) -> Task:
    """Return the task as it is queued again at `now`, with its own deadline or a new one.

    Its result goes, its tries and last error stay; tries that were used up, by its own limit or its queue's, start
    again from 0. Raises `Conflict` for any other state, and where the deadline has passed.
    """
    if task.state not in RETRIED_FROM:
        reason = _REASONS.get(task.state, f"is in state {task.state!r}, which this version does not know")
        raise Conflict(f"task {task.id}", reason, task=task)
    ends = task.deadline if deadline is None else deadline
    if ends is not None and ends <= now:
        raise Conflict(f"task {task.id}", "its deadline has passed; give it a new one", task=task)
    limits = [limit for limit in (task.max_tries, queue_max_tries) if limit > 0]
    tries = 0 if limits and task.tries >= min(limits) else task.tries
    return task.replace(
        state=TaskState.RETRY.value,
        queue=queue,
        tries=tries,
        deadline=ends,
        result=None,
        next_try_at=None,
        cancelled=None,
        dead_letter="",
    )
