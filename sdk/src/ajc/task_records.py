"""The task store as a client sees it: one record read from the leader, all of them in batches, a change by revision."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ajc.connection import Connection
from ajc.errors import Conflict, MalformedTask, NotFound, TooLarge
from ajc.headers import encode_headers
from ajc.instant import Instant
from ajc.store_errors import NO_MESSAGE
from ajc.stored_message import delete_message, last_message, stored_messages
from ajc.subjects import TASK_SUBJECTS, TASKS_STREAM, task_subject
from ajc.task import Task
from ajc.trace_context import context_in_headers

EXPECTED_REVISION: Final = "Nats-Expected-Last-Subject-Sequence"
NEW_RECORD: Final = encode_headers({EXPECTED_REVISION: "0"})
"""The headers of the first save of a task: there must be none yet."""


class TaskRecord(msgspec.Struct, frozen=True):
    """A stored task: its bytes, its revision, when it was stored by the server's clock."""

    task: Task
    revision: int
    data: bytes
    stored_at: Instant


async def read_task(connection: Connection, task_id: str, *, timeout: float = 5.0) -> TaskRecord:
    """Read a task from the store's leader: never a stale one. Raises `NotFound`, `MalformedTask` and `Unavailable`."""
    try:
        message = await last_message(connection, TASKS_STREAM, task_subject(task_id), timeout=timeout)
    except NotFound:
        raise NotFound("task", task_id, code=NO_MESSAGE) from None
    task = with_context(Task.decode(message.data), message.headers)
    return TaskRecord(task, message.revision, message.data, message.stored_at)


def with_context(task: Task, headers: bytes | None) -> Task:
    """Give a task without a trace context the one that its record's headers have: the next save keeps it."""
    if task.traceparent or headers == NEW_RECORD:
        return task
    traceparent, tracestate = context_in_headers(headers)
    return task.replace(traceparent=traceparent, tracestate=tracestate) if traceparent else task


async def save_task(connection: Connection, task: Task, revision: int, *, timeout: float = 5.0) -> int:
    """Save a task over this revision and return the new one.

    Raises `Conflict` when that is not its last revision, `TooLarge`, and `Unavailable`: then it may have been saved.
    """
    body = task.encode()
    headers = encode_headers({EXPECTED_REVISION: str(revision)})
    check_task_size(connection, len(headers) + len(body))
    ack = await connection.stored(task_subject(task.id), body, headers=headers, timeout=timeout)
    return ack.seq


def check_task_size(connection: Connection, size: int) -> None:
    """Raise `TooLarge` for a task that the server would not take (it would end the connection)."""
    if size > connection.max_payload:
        raise TooLarge("task", size, connection.max_payload)


async def stored_tasks(connection: Connection) -> AsyncIterator[TaskRecord]:
    """Yield every task in the store that can be read, in the order of their last change."""
    async for message in stored_messages(connection, TASKS_STREAM, TASK_SUBJECTS):
        try:
            task = Task.decode(message.data)
        except MalformedTask:
            continue  # `dlq` and `doctor` name such records; a listing of tasks has no row for them
        yield TaskRecord(task, message.revision, message.data, message.stored_at)


async def delete_revision(connection: Connection, task_id: str, revision: int) -> None:
    """Remove a task if this is still its revision.

    Raises `Conflict` when it is not, `StoreError` when the store refuses, and `Unavailable`.
    """
    if not await delete_message(connection, TASKS_STREAM, revision):
        raise Conflict(f"task {task_id}", "was changed or removed meanwhile; load it again")
