"""The step into `terminated` that somebody asks for: what it may be asked of, and what it writes."""

from __future__ import annotations

from typing import Final

from ajc.errors import Conflict, InvalidValue
from ajc.exchange import clean_text
from ajc.instant import Instant
from ajc.task import FINAL_STATES, Task, TaskState

CANCELLED_FROM: Final[frozenset[str]] = frozenset(str(state) for state in TaskState) - FINAL_STATES
"""The states that a cancel leads out of: all that are not final."""

_WORD: Final = "cancelled"
_PREFIX: Final = _WORD + ": "


def cancel_text(reason: str) -> str:
    """Return the `last_err` of a task that is cancelled for this reason; InvalidValue for what is no text.

    It is cleaned and cut as every stored text is (4,096 bytes at most). Without a reason it is the bare word.
    """
    if not isinstance(reason, str):
        raise InvalidValue("reason", reason, "is a text")
    reason = reason.strip()
    return clean_text(_PREFIX + reason) if reason else _WORD


def cancel_reason(task: Task) -> str:
    """Return the reason that a cancelled task was given; "" when there was none."""
    return task.last_err.removeprefix(_PREFIX) if task.last_err.startswith(_PREFIX) else ""


def is_cancelled(task: Task) -> bool:
    """Tell whether this record says that the task was cancelled."""
    return task.state == TaskState.TERMINATED and task.cancelled is not None


def cancelled(task: Task, text: str, now: Instant) -> Task:
    """Return the task as it is cancelled at `now`, with `text` (of `cancel_text`) as its last error.

    Its tries stay, and no dead letter belongs to it. Raises `Conflict`, which names the state, for a task that has
    ended, and for a state that this version does not know.
    """
    if task.state in FINAL_STATES:
        raise Conflict(f"task {task.id}", f"is {task.state} already", task=task)
    if task.state not in CANCELLED_FROM:
        raise Conflict(f"task {task.id}", f"is in state {task.state!r}, which this version does not know", task=task)
    return task.replace(
        state=TaskState.TERMINATED.value, last_err=text, next_try_at=None, cancelled=now, dead_letter=""
    )
