"""The task store read from its end: what changed last comes first, and nobody reads a million tasks to see twenty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from ajc.connection import Connection
from ajc.errors import MalformedTask, NoResponders, NotFound
from ajc.store_errors import NO_MESSAGE
from ajc.stored_message import StoredMessage, next_message, next_page
from ajc.subjects import TASK_SUBJECTS, TASKS_STREAM
from ajc.task import Task
from ajc.task_records import TaskRecord

FIRST_SPAN: Final = 1_000
LONGEST_SPAN: Final = 64_000


async def newest_tasks(connection: Connection) -> AsyncIterator[TaskRecord]:
    """Yield every task in the store that can be read, the one that changed last first.

    Spans of the stream are read one by one, from its end to its beginning. A task that changes meanwhile may be left
    out: it has moved to where was read already. Raises `NotFound` without a store, and `Unavailable`.
    """
    state = (await connection.api(f"STREAM.INFO.{TASKS_STREAM}"))["state"]
    first, end = max(int(state["first_seq"]), 1), int(state["last_seq"]) + 1
    span = FIRST_SPAN
    while end > first:
        begin = max(first, end - span)
        found = [message async for message in _span(connection, begin, end)]
        for message in reversed(found):
            try:
                task = Task.decode(message.data)
            except MalformedTask:
                continue
            yield TaskRecord(task, message.revision, message.data, message.stored_at)
        end = begin
        span = min(2 * span, LONGEST_SPAN)  # old parts have more holes than messages


async def _span(connection: Connection, begin: int, end: int) -> AsyncIterator[StoredMessage]:
    """Yield the messages from sequence `begin` on and before `end`."""
    while begin < end:
        try:
            page = await next_page(connection, TASKS_STREAM, TASK_SUBJECTS, begin)
        except NoResponders:  # a store that the Go implementation made: no direct reads
            try:
                page = [await next_message(connection, TASKS_STREAM, TASK_SUBJECTS, begin)]
            except NotFound as error:
                if error.code != NO_MESSAGE:
                    raise
                return
        for message in page:
            if message.revision >= end:
                return
            yield message
        if not page:
            return
        begin = page[-1].revision + 1
