"""Every subject, stream and durable name, and the grammar of the names in them.

Nothing here builds a subject from a name that is outside its grammar: hostile data (a dot, a blank, `*`, `>`) raises
InvalidName before it can become part of one.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from ajc.errors import InvalidName

TASKS_STREAM = "CHORIA_AJ_TASKS"
DELAY_STREAM = "CHORIA_AJ_DELAY"
DLQ_STREAM = "CHORIA_AJ_DLQ"
QUEUE_STREAM_PREFIX = "CHORIA_AJ_Q_"
CONSUMER = "WORKERS"
CONFIGURATION_BUCKET = "CHORIA_AJ_CONFIGURATION"
ELECTIONS_BUCKET = "CHORIA_AJ_ELECTIONS"

TASK_SUBJECTS = "CHORIA_AJ.T.*"
ALL_ITEMS = "CHORIA_AJ.Q.>"
ALL_SCHEDULES = "CHORIA_AJ.D.S.*.*"
ALL_FIRED = "CHORIA_AJ.D.F.*.*"
DELAY_SUBJECTS = (ALL_SCHEDULES, ALL_FIRED)
DLQ_SUBJECTS = "CHORIA_AJ.DLQ.*.*"
TASK_EVENTS = "CHORIA_AJ.E.task_state.*"
ALL_EVENTS = "CHORIA_AJ.E.>"
CANCEL_SUBJECTS = "ajc.cancel.*"
BEAT_SUBJECTS = "ajc.beat.*.*"

EXEC_PREFIX = "ajc.exec"
GO_EXEC_PREFIX = "CHORIA_AJ.H.T"  # where responders written for Go listen
CATCHALL = "catchall"
RESPONDER_GROUP = "ajc"  # the one queue group of all responders: a second one would run each task twice
DEFAULT_QUEUE = "DEFAULT"

NAME_ALLOWED = "1 to 128 of the characters a-z A-Z 0-9 _ : -"
LONGEST_NAME = 128
QUEUE_ALLOWED = "1 to 128 of the characters a-z A-Z 0-9 _ -"

# Go's own check has no length limit, and none at all for queues; a colon in a queue would let signed fields shift.
_name = re.compile(r"[a-zA-Z0-9_:-]{1,128}").fullmatch
_queue_name = re.compile(r"[a-zA-Z0-9_-]{1,128}").fullmatch


# Types and ids that were found legal: there are few types, and the same id is asked about for each message of a task.
_KEPT = 2_048
_legal: set[str] = set()


def is_type(name: object) -> bool:
    """Whether this is a legal task type (`catchall` is: only enqueueing it is refused)."""
    return isinstance(name, str) and (name in _legal or _is_name(name))


def is_id(name: object) -> bool:
    """Whether this is a legal task id; it need not be a KSUID."""
    return isinstance(name, str) and (name in _legal or _is_name(name))


def _is_name(name: str) -> bool:
    if _name(name) is None:
        return False
    if len(_legal) >= _KEPT:
        _legal.clear()
    _legal.add(name)
    return True


def is_queue(name: object) -> bool:
    """Whether this is a legal queue name."""
    return isinstance(name, str) and _queue_name(name) is not None


def check_type(name: str, *, catchall: bool = False) -> str:
    """Give the type back, or raise InvalidName; `catchall` is reserved unless asked for (responders may serve it)."""
    if not is_type(name) or (name == CATCHALL and not catchall):
        raise InvalidName("task type", name, NAME_ALLOWED + ("" if catchall else "; catchall is reserved"))
    return name


def check_id(name: str) -> str:
    """Give the task id back, or raise InvalidName."""
    if not is_id(name):
        raise InvalidName("task id", name, NAME_ALLOWED)
    return name


def check_queue(name: str) -> str:
    """Give the queue name back, or raise InvalidName."""
    if not is_queue(name):
        raise InvalidName("queue", name, QUEUE_ALLOWED)
    return name


def task_subject(task_id: str) -> str:
    """Where the task is stored: the last message there is the task."""
    if task_id.__class__ is not str or task_id not in _legal:  # asked without a call: this is made for every message
        check_id(task_id)
    return "CHORIA_AJ.T." + task_id


def task_of_subject(subject: str) -> str:
    """Tell whose record is stored there; `subject` is one of `TASK_SUBJECTS`."""
    return subject[len(TASK_SUBJECTS) - 1 :]


def queue_stream(queue: str) -> str:
    """Name the stream of a queue."""
    return QUEUE_STREAM_PREFIX + check_queue(queue)


def queue_of_stream(stream: str) -> str | None:
    """Tell the queue that a stream holds, None for any other stream.

    A stream made by Go may hold a queue whose name we refuse: ask `is_queue` before using it.
    """
    queue = stream.removeprefix(QUEUE_STREAM_PREFIX)
    return queue if queue and queue != stream else None


def queue_subjects(queue: str) -> str:
    """All items of a queue."""
    return f"CHORIA_AJ.Q.{check_queue(queue)}.>"


def item_subject(queue: str, task_id: str) -> str:
    """Name the one item that a task has in a queue."""
    return f"CHORIA_AJ.Q.{check_queue(queue)}.{check_id(task_id)}"


def items_of(queue: str) -> str:
    """Cover the items of a queue, one a task."""
    return f"CHORIA_AJ.Q.{check_queue(queue)}.*"


def item_of_subject(subject: str) -> tuple[str, str]:
    """Queue and task id (the last token, not checked) of an item's subject; both empty when it is none."""
    tokens = subject.split(".")
    return (tokens[2], tokens[-1]) if len(tokens) > 3 and subject.startswith("CHORIA_AJ.Q.") else ("", "")  # noqa: PLR2004


def delay_schedule_subject(queue: str, task_id: str) -> str:
    """Where a waiting item's schedule is stored: one a task."""
    return f"CHORIA_AJ.D.S.{check_queue(queue)}.{check_id(task_id)}"


def schedules_of(queue: str) -> str:
    """Cover the schedules of a queue."""
    return f"CHORIA_AJ.D.S.{check_queue(queue)}.*"


def schedule_anywhere(task_id: str) -> str:
    """Cover the schedule of a task, whichever queue it is for."""
    return f"CHORIA_AJ.D.S.*.{check_id(task_id)}"


def delay_fire_subject(queue: str, task_id: str) -> str:
    """Where the server puts a waiting item when it is due; the queue's stream sources it from there."""
    return f"CHORIA_AJ.D.F.{check_queue(queue)}.{check_id(task_id)}"


def fired_of(queue: str) -> str:
    """Cover the fired items of a queue."""
    return f"CHORIA_AJ.D.F.{check_queue(queue)}.*"


def fired_anywhere(task_id: str) -> str:
    """Cover the fired item of a task, whichever queue it is for."""
    return f"CHORIA_AJ.D.F.*.{check_id(task_id)}"


def dlq_subject(queue: str, task_id: str) -> str:
    """Where the task's dead letter is kept; an id that is no legal token is replaced by its hash."""
    if not is_id(task_id):
        task_id = "sha256-" + hashlib.sha256(task_id.encode("utf-8", "replace")).hexdigest()[:16]
    return f"CHORIA_AJ.DLQ.{check_queue(queue)}.{task_id}"


def dead_letters_of(queue: str) -> str:
    """Cover the dead letters of a queue."""
    return f"CHORIA_AJ.DLQ.{check_queue(queue)}.*"


@lru_cache(maxsize=2_048)  # a refused name raises, and is not kept
def exec_subject(prefix: str, task_type: str) -> str:
    """Where a responder of this type listens; the empty type is the catch-all."""
    return f"{prefix}.{check_type(task_type, catchall=True) if task_type else CATCHALL}"


def cancel_subject(task_id: str) -> str:
    """Where it is told that a task was cancelled."""
    return "ajc.cancel." + check_id(task_id)


def cancelled_id(subject: bytes) -> str:
    """Tell which task a message on one of `CANCEL_SUBJECTS` names: any token, not checked."""
    return subject[len(CANCEL_SUBJECTS) - 1 :].decode("utf-8", "replace")


def beat_prefix(bridge: str) -> str:
    """Where all attempts of one bridge beat, up to the attempt's token."""
    return f"ajc.beat.{check_queue(bridge)}."


def beat_subject(bridge: str, attempt: str) -> str:
    """Where a responder beats for one attempt: two opaque tokens."""
    return beat_prefix(bridge) + check_id(attempt)


def event_subject(task_id: str) -> str:
    """Where the events of a task are published."""
    if task_id.__class__ is not str or task_id not in _legal:
        check_id(task_id)
    return "CHORIA_AJ.E.task_state." + task_id


def progress_subject(task_id: str) -> str:
    """Where it is published how far the running attempt of a task is."""
    return "CHORIA_AJ.E.task_progress." + check_id(task_id)


def all_events_subject(task_id: str) -> str:
    """Cover the events of a task, of every kind."""
    return "CHORIA_AJ.E.*." + check_id(task_id)


def leader_event_subject(component: str) -> str:
    """Where a component's elections are published."""
    if not is_type(component):
        raise InvalidName("component", component, NAME_ALLOWED)
    return "CHORIA_AJ.E.leader_election." + component
