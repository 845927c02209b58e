"""Cancelling a task, on the store, with no bridge needed: save by revision, event, schedule, item, then the message.

The save decides: whoever saves a final state first has the last word, and a cancel that comes second learns it. What
follows it only tidies up, and may be done again by anybody: an item that is left is acknowledged without a run when it
is delivered, and cancelling once more plays the rest again. After an answer that was lost the record is read: the same
bytes there are our own save.

The schedule goes before the item: an item moves from the delay stream into its queue and never back. It is removed at
all, and not left to a bridge, since a worker of the Go implementation runs a `terminated` task whose item it finds.

Fail points, in order: `cancel.begin` (nothing sent), `cancel.save_sent`, `cancel.saved`, `cancel.event_sent`,
`cancel.schedule_gone`, `cancel.item_gone`, `cancel.told`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from ajc.cancel_by_hand import cancel_reason, cancel_text, cancelled, is_cancelled
from ajc.connection import Connection, read_pub_ack
from ajc.enqueue import ANSWER_SECONDS, DEFAULT_TIMEOUT
from ajc.entry import announce
from ajc.errors import AjcError, Closed, Conflict, NotFound, NotPermitted, QueueFull, StoreError, TooLarge, Unavailable
from ajc.failpoint import reach
from ajc.headers import encode_headers
from ajc.instant import Instant
from ajc.store_errors import MESSAGE_TOO_LARGE
from ajc.stored_message import delete_last
from ajc.subjects import (
    DELAY_STREAM,
    cancel_subject,
    check_id,
    fired_anywhere,
    is_queue,
    item_subject,
    queue_stream,
    schedule_anywhere,
    task_subject,
)
from ajc.task import Task
from ajc.task_records import EXPECTED_REVISION, TaskRecord, check_task_size, read_task
from ajc.topology import list_queues
from ajc.work_item import WorkItem

_T = TypeVar("_T")
_PAUSE: Final = 0.05
_SHORT_TEXT: Final = 80
_FIRST_LOOK: Final = 0.02
_LOOK_SECONDS: Final = 1.0
"""How long an item that must be somewhere is looked for: it may be between two streams, or not written yet."""
_QUEUES_AT_ONCE: Final = 32


async def cancel_task(
    connection: Connection, task_id: str, reason: str = "", *, timeout: float = DEFAULT_TIMEOUT
) -> Task:
    """Cancel a task and return it as stored; one that is cancelled already is returned as it is.

    `timeout` is how long (seconds) this goes on while no answers come. Raises `NotFound`, `Conflict` (it has ended:
    the error has the task), `InvalidName`, `InvalidValue`, `TooLarge`, `Unavailable`: then cancel it again, and at once
    `NotPermitted`: its `subject` tells whether that was the task, or its item, which is left in its queue then.
    """
    return await _Cancel(connection, check_id(task_id), cancel_text(reason), timeout).run()


class _Cancel:
    """One task on its way out."""

    def __init__(self, connection: Connection, task_id: str, text: str, timeout: float) -> None:
        self._connection = connection
        self._task_id = task_id
        self._text = text
        self._now = Instant.now()
        self._loop = asyncio.get_running_loop()
        self._give_up = self._loop.time() + timeout
        self._sent = b""
        self._before: Task | None = None
        """What our save ended; None when the task was cancelled before."""

    async def run(self) -> Task:
        reach("cancel.begin")
        record = await self._surely(self._save)
        untidy: NotPermitted | None = None
        try:
            await self._surely(lambda: self._tidy_up(record.task))
            reach("cancel.item_gone")
        except NotPermitted as error:
            untidy = error  # it is cancelled all the same, and whoever runs it is to know
        await self._surely(lambda: self._tell(record))
        reach("cancel.told")
        if untidy is not None:
            raise untidy
        return record.task

    async def _save(self) -> TaskRecord:
        """Save, or find that it is saved. May be asked again after any error."""
        while True:
            record = await read_task(self._connection, self._task_id, timeout=ANSWER_SECONDS)
            if record.data == self._sent:  # our own save, whose answer was lost
                announce(self._connection, record.task)
                return record
            if is_cancelled(record.task):
                self._before = None
                return record
            self._before = record.task
            task = cancelled(record.task, self._text, self._now)
            try:
                revision = await self._write(task, record.revision)
            except Conflict:
                if self._loop.time() > self._give_up:
                    raise
                continue  # somebody else saved it first: decide anew
            except NotFound as error:
                raise Unavailable("the task store has no leader") from error
            except TooLarge:
                if self._text == cancel_text(""):
                    raise
                self._text = self._text[: _SHORT_TEXT - 1] + "…" if len(self._text) > _SHORT_TEXT else cancel_text("")
                continue
            reach("cancel.saved")
            announce(self._connection, task)
            reach("cancel.event_sent")
            return TaskRecord(task, revision, self._sent, self._now)

    async def _write(self, task: Task, revision: int) -> int:
        subject = task_subject(task.id)
        self._sent = body = task.encode()
        headers = encode_headers({EXPECTED_REVISION: str(revision)})
        check_task_size(self._connection, len(headers) + len(body))
        answer = self._connection.ask(subject, body, headers=headers, timeout=ANSWER_SECONDS)
        await asyncio.sleep(0)  # what was asked leaves with this turn of the loop
        reach("cancel.save_sent")
        try:
            return read_pub_ack(await answer, subject).seq
        except StoreError as error:
            if error.code == MESSAGE_TOO_LARGE:
                raise TooLarge("task", len(body), 0) from error
            raise

    async def _tidy_up(self, task: Task) -> None:
        """Remove its schedule and its item, wherever they are.

        An unfinished task had one of the two, and one that waits for its time a schedule, which its bridge may be about
        to write while it holds the item: whoever ended it looks again for a moment until that is found.
        """
        before = self._before
        until = self._loop.time() + (_LOOK_SECONDS if before is not None else 0.0)
        waits = before is not None and before.next_try_at is not None and before.next_try_at > self._now
        pause = _FIRST_LOOK
        while True:
            scheduled = await self._delete_delayed(schedule_anywhere(self._task_id))
            # a fired one may have been copied into its queue already: only the queue's own answer ends the search
            await self._delete_delayed(fired_anywhere(self._task_id))
            reach("cancel.schedule_gone")
            queued = await self._delete_item(task.queue)
            if scheduled or (queued and not waits) or self._loop.time() >= until:
                return
            await asyncio.sleep(pause)
            pause *= 2

    async def _delete_delayed(self, anywhere: str) -> bool:
        # of any queue: the task's field need not name the one that its item is in
        return await delete_last(self._connection, DELAY_STREAM, anywhere)

    async def _delete_item(self, queue: str) -> bool:
        """Remove the item from its own queue, else from whichever has it; tell whether there was one."""
        if is_queue(queue) and await self._delete_item_of(queue):
            return True
        try:
            others = [name for name in await list_queues(self._connection) if name != queue and is_queue(name)]
        except Closed:
            raise
        except Unavailable:
            return False  # no right to list them
        for start in range(0, len(others), _QUEUES_AT_ONCE):
            few = others[start : start + _QUEUES_AT_ONCE]
            if any(await asyncio.gather(*(self._delete_item_of(name) for name in few))):
                return True
        return False

    async def _delete_item_of(self, queue: str) -> bool:
        return await delete_last(self._connection, queue_stream(queue), item_subject(queue, self._task_id))

    async def _tell(self, record: TaskRecord) -> None:
        """Tell whoever runs it. A task that was queued again meanwhile gets back the item that may have gone."""
        try:
            now = await read_task(self._connection, self._task_id, timeout=ANSWER_SECONDS)
        except NotFound:
            now = record  # removed since: a running attempt ends all the same
        if now.revision == record.revision:
            self._connection.publish(cancel_subject(self._task_id), cancel_reason(record.task).encode())
            return
        task = now.task
        if task.final or not is_queue(task.queue):
            return
        with suppress(QueueFull, NotFound):  # a bridge finds a task without an item
            item = WorkItem(task_id=task.id).encode()
            await self._connection.stored(item_subject(task.queue, task.id), item, timeout=ANSWER_SECONDS)

    async def _surely(self, step: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a step that may be repeated until it is answered, or the time is up."""
        while True:
            try:
                return await step()
            except (Closed, NotPermitted):
                raise
            except Unavailable as error:
                await self._again(error)

    async def _again(self, error: AjcError) -> None:
        try:
            async with asyncio.timeout(max(self._give_up - self._loop.time(), 0)):
                await self._connection.wait_connected()
                await asyncio.sleep(_PAUSE)
        except TimeoutError:
            text = f"{error}; task {self._task_id} may be cancelled: cancel it again"
            raise Unavailable(text) from error
