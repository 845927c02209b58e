"""What people do to a stored task by hand: run it again, remove it."""

from __future__ import annotations

from typing import Final

from ajc.connection import Connection
from ajc.enqueue import ANSWER_SECONDS
from ajc.entry import announce
from ajc.errors import Conflict, NotFound, NotPermitted, QueueFull, Unavailable
from ajc.instant import Instant
from ajc.making_tasks import Deadline, deadline_instant
from ajc.retry_by_hand import retried
from ajc.stored_message import delete_last
from ajc.subjects import (
    DELAY_STREAM,
    DLQ_STREAM,
    check_queue,
    delay_schedule_subject,
    dlq_subject,
    is_queue,
    item_subject,
    queue_stream,
)
from ajc.task import Task, TaskState
from ajc.task_records import TaskRecord, delete_revision, read_task, save_task
from ajc.topology import purge_subject, read_queue
from ajc.work_item import WorkItem

_TURNS: Final = 3


async def retry_task(
    connection: Connection, task_id: str, *, queue: str | None = None, deadline: Deadline | None = None
) -> Task:
    """Queue a task again, whatever its end was, or now when it waits for a retry; return it as stored.

    What changes: `ajc.retry_by_hand`. It goes to its own queue or to `queue`, and gets a new `deadline` when one is
    given. Its schedule and its dead letter go.

    Raises `NotFound` (no such task or queue), `Conflict` for a task that is queued, blocked or running, that somebody
    else changes meanwhile, or whose deadline has passed without a new one, `QueueFull`, `NotPermitted` (without the
    right to the queue, as for a full one, it becomes `queue_error`), and `Unavailable`: then do it again.
    """
    record = await read_task(connection, task_id)
    now = Instant.now()
    before = record.task
    target = check_queue(queue or before.queue)
    limit = (await read_queue(connection, target)).max_tries
    task = retried(before, target, limit, None if deadline is None else deadline_instant(deadline, now), now)
    revision = await save_task(connection, task, record.revision)
    announce(connection, task)
    if is_queue(before.queue):
        await purge_subject(connection, DELAY_STREAM, delay_schedule_subject(before.queue, task_id))
        await purge_subject(connection, DLQ_STREAM, dlq_subject(before.queue, task_id))
        if before.queue != target:
            await delete_last(connection, queue_stream(before.queue), item_subject(before.queue, task_id))
    # without Nats-Msg-Id: the first item of this task may be in the window of duplicates
    item = WorkItem(task_id=task_id).encode()
    try:
        await connection.stored(item_subject(target, task_id), item, timeout=ANSWER_SECONDS)
    except (QueueFull, NotPermitted) as error:
        text = f"queue {target} is full" if isinstance(error, QueueFull) else str(error)
        refused = task.replace(state=str(TaskState.QUEUE_ERROR), last_err=text)
        await save_task(connection, refused, revision)
        announce(connection, refused)
        raise
    return task


async def delete_task(connection: Connection, task_id: str, *, force: bool = False) -> Task:
    """Remove a task with its item, its schedule and its dead letter; return what it was.

    Raises `NotFound`, `Conflict` for a task that runs now (its result would be lost; not with `force`), and
    `Unavailable`.
    """
    record = await _remove_record(connection, task_id, force=force)
    task = record.task
    if is_queue(task.queue):
        await delete_last(connection, queue_stream(task.queue), item_subject(task.queue, task_id))
        await purge_subject(connection, DELAY_STREAM, delay_schedule_subject(task.queue, task_id))
        await purge_subject(connection, DLQ_STREAM, dlq_subject(task.queue, task_id))
    return task


async def _remove_record(connection: Connection, task_id: str, *, force: bool) -> TaskRecord:
    lost: TaskRecord | None = None
    for turn in range(_TURNS):
        try:
            record = await read_task(connection, task_id)
        except NotFound:
            if lost is None:
                raise
            return lost  # the answer was lost, and it was done
        if record.task.state == TaskState.ACTIVE and not force:
            raise Conflict(f"task {task_id}", "runs now; wait for its end, or force it", task=record.task)
        try:
            await delete_revision(connection, task_id, record.revision)
        except Conflict:
            if turn == _TURNS - 1:
                raise
        except Unavailable:
            lost = record
            if turn == _TURNS - 1:
                raise
        else:
            return record
    raise AssertionError
