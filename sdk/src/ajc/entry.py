"""What an enqueue sends: the record, its event, the item; checked and encoded before anything leaves."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from ajc.connection import Connection
from ajc.errors import InvalidValue, Unavailable
from ajc.events import encode_state_change
from ajc.instant import Instant
from ajc.subjects import check_type, event_subject, item_subject, task_subject
from ajc.task import Task, TaskState
from ajc.task_records import NEW_RECORD, check_task_size
from ajc.work_item import WorkItem

_NEW: Final[str] = TaskState.NEW.value
_BLOCKED: Final[str] = TaskState.BLOCKED.value


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A task ready to be sent: everything that its two writes need."""

    task: Task
    body: bytes
    subject: str
    item_subject: str
    item_body: bytes
    item_headers: bytes


def prepare(connection: Connection, task: Task, queue: str) -> Entry:
    """Check a task and encode its writes. It goes to its own queue, or to `queue` when it names none.

    Raises `InvalidName`, `InvalidValue` for a state that cannot be enqueued, and `TooLarge` before anything is sent.
    """
    task = as_enqueued(task, queue)
    name = task.queue
    body = task.encode()
    check_task_size(connection, len(NEW_RECORD) + len(body))
    return Entry(
        task,
        body,
        task_subject(task.id),
        item_subject(name, task.id),
        WorkItem(task_id=task.id).encode(),
        b"NATS/1.0\r\nNats-Msg-Id: " + task.id.encode() + b"\r\n\r\n",
    )


def as_enqueued(task: Task, queue: str) -> Task:
    """Give the task as it is stored first: in its own queue, or in `queue` when it names none; `blocked` or `new`.

    Raises `InvalidName` for its type, and `InvalidValue` for a state that cannot be enqueued.
    """
    name = task.queue or queue
    state = _BLOCKED if task.dependencies else _NEW
    if task.state not in (_NEW, state):
        raise InvalidValue("state", task.state, "a task that was under way is queued again with retry()")
    check_type(task.type)
    if task.queue != name or task.state != state:
        return structs.replace(task, queue=name, state=state)
    return task


def announce(connection: Connection, task: Task) -> None:
    """Publish the event of a saved state. Events are not stored, and a full send buffer only costs the event."""
    try:
        connection.publish(event_subject(task.id), encode_state_change(task, Instant.now(), task.queue))
    except Unavailable:
        if connection.closed:
            raise
