"""One task into its queue, whatever happens on the way: saved, announced, then its item stored; never twice.

The record is written before the item, each acknowledged: an item always finds its task. A refused item makes the task
`queue_error`. After an answer that was lost the same write is sent again; the task's first revision (0 expected) and
the item's `Nats-Msg-Id`, with one message a subject, keep it single, and the store's leader is asked what is there.

Fail points, in order: `enqueue.begin` (nothing sent), `enqueue.save_sent`, `enqueue.saved`, `enqueue.event_sent`,
`enqueue.item_sent`, `enqueue.item_stored`; and for a refused item `enqueue.refused` and `enqueue.error_saved`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from ajc import ksuid
from ajc.connection import Connection, PubAck, read_pub_ack
from ajc.entry import Entry, announce
from ajc.errors import (
    AjcError,
    AlreadyExists,
    Closed,
    Conflict,
    NotFound,
    NotPermitted,
    QueueFull,
    StoreError,
    Unavailable,
)
from ajc.failpoint import reach
from ajc.stored_message import last_message
from ajc.subjects import (
    DELAY_STREAM,
    TASKS_STREAM,
    delay_schedule_subject,
    queue_stream,
)
from ajc.task import Task, TaskState
from ajc.task_records import NEW_RECORD, TaskRecord, read_task, save_task
from ajc.untaken import Untaken

ANSWER_SECONDS: Final = 5.0
"""How long one write waits for its answer before it is sent again."""
DEFAULT_TIMEOUT: Final = 30.0
"""How long an enqueue goes on (seconds) while no answers come."""

_FULL_FIRST_PAUSE: Final = 0.02
_FULL_LONGEST_PAUSE: Final = 0.5
_PAUSE: Final = 0.05
_LOOK_SECONDS: Final = 2.0
_UNSEEN_LOOKS: Final = 2
_REFUSALS: Final = (QueueFull, NotFound, StoreError, NotPermitted)
_NO_ITEM: Final = (QueueFull, NotFound)
"""What says, with a code, that the queue has no item of a task stored before: any other refusal tells only of ours."""
_last_sequence: Final = re.compile(rb"wrong last sequence: (\d{1,18})").search


class Enqueue:
    """One task on its careful way; `saved` resumes with a record that is stored already.

    `wait` is how long (seconds) a full queue is tried again before the task is refused.
    """

    def __init__(
        self, connection: Connection, entry: Entry, *, wait: float = 0.0, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self._connection = connection
        self._entry = entry
        self._wait = wait
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._give_up = self._loop.time() + timeout
        self.save_may_have_landed = False
        self.item_may_have_landed = False
        self._revision_told: int | None = None
        self._stored_before = False

    async def run(self) -> Task:
        """Save, announce, send the item; return the task as stored.

        Raises `AlreadyExists`, `QueueFull` and `NotFound` (no such queue: in both cases the task is stored as
        `queue_error`), `StoreError`, and `Unavailable`: then enqueue it again under the same id, and nothing is
        doubled. `NotPermitted` is an `Unavailable` that comes at once, and repeating does not help: without the right
        to the store nothing is stored, without that to the queue the task is stored as `queue_error`, unless it was
        stored before. A queue without a leader is waited for; who may not read its state hears of a missing one only
        once no election would last so long.
        """
        reach("enqueue.begin")
        revision = await self._save()
        reach("enqueue.saved")
        announce(self._connection, self._entry.task)
        reach("enqueue.event_sent")
        return await self.run_saved(revision)

    async def run_saved(self, revision: int, refused: QueueFull | None = None) -> Task:
        """Send the item of a task that is saved with this revision and announced; else as `run`.

        `refused` is what its item met already: without a `wait` it is not sent again.
        """
        await self._put_item(self._entry.task, revision, refused)
        reach("enqueue.item_stored")
        return self._entry.task

    async def _put_item(self, task: Task, revision: int, refused: QueueFull | None = None) -> None:
        """Send the item of a task as it is stored; one that is refused makes it `queue_error`, unless it may be there.

        A record of an earlier enqueue may well have its item, and run: then only the error is raised.
        """
        try:
            if refused is not None and not self._wait:
                raise refused
            await self._send_item(revision, repair=self._stored_before)
        except _REFUSALS as error:
            if self._stored_before and not (isinstance(error, _NO_ITEM) and error.code):
                raise
            reach("enqueue.refused")
            await self._refuse(error, task, revision)
            raise

    async def _save(self) -> int:
        entry = self._entry
        store = Untaken(self._connection, TASKS_STREAM, "task store", TASKS_STREAM)
        while True:
            try:
                ack = await self._write(entry.subject, entry.body, NEW_RECORD, "enqueue.save_sent")
            except Conflict:
                return await self._saved_before()
            except NotFound:
                await self._again(await store.look())
            except (Closed, NotPermitted):
                raise
            except Unavailable as error:
                self.save_may_have_landed = True
                await self._again(error)
            else:
                return ack.seq

    async def _saved_before(self) -> int:
        """There is a record: ours, whose answer was lost, or somebody else's."""
        entry = self._entry
        try:
            record = await self._read_back()
        except Unavailable:
            # no right to read the store: a fresh random id that was sent before is ours
            told = self._revision_told
            if self.save_may_have_landed and told is not None and len(entry.task.id) == ksuid.LENGTH:
                return told
            raise
        if record is None:
            return await self._save()  # removed in between
        if record.data == entry.body:
            self._stored_before = not self.save_may_have_landed
            return record.revision
        found = record.task
        self._stored_before = True
        if found.state == TaskState.NEW and found.type == entry.task.type and found.queue == entry.task.queue:
            # an earlier enqueue of this id may have ended between its two writes
            await self._put_item(found, record.revision)
        raise AlreadyExists("task", entry.task.id)

    async def _read_back(self) -> TaskRecord | None:
        for look in range(_UNSEEN_LOOKS):
            try:
                return await read_task(self._connection, self._entry.task.id, timeout=_LOOK_SECONDS)
            except NotFound:
                return None
            except (Closed, NotPermitted):
                raise
            except Unavailable as error:
                if look + 1 == _UNSEEN_LOOKS:
                    raise
                await self._again(error)
        return None

    async def _send_item(self, revision: int, *, repair: bool) -> None:
        entry = self._entry
        full_until = self._loop.time() + self._wait
        pause = _FULL_FIRST_PAUSE
        queue = Untaken(self._connection, queue_stream(entry.task.queue), "queue", entry.task.queue)
        while True:
            try:
                ack = await self._write(entry.item_subject, entry.item_body, entry.item_headers, "enqueue.item_sent")
            except QueueFull:
                if repair and await self._under_way(revision):
                    return
                if self._loop.time() + pause > full_until:
                    raise QueueFull(entry.task.queue) from None
                await asyncio.sleep(pause)
                pause = min(2 * pause, _FULL_LONGEST_PAUSE)
                self._give_up = self._loop.time() + self._timeout
            except NotFound:
                await self._again(await queue.look())
            except (Closed, NotPermitted):
                raise
            except Unavailable as error:
                self.item_may_have_landed = True
                await self._again(error)
            else:
                if ack.duplicate:
                    await self._after_duplicate(revision)
                return

    async def _after_duplicate(self, revision: int) -> None:
        """Make sure of the item where the server saw its id before: ours, or one of a task that was removed since."""
        try:
            if await self._under_way(revision):
                return
        except Unavailable:
            if self.item_may_have_landed:
                return  # no right to look: what was sent before is the likelier
        # without the id nothing is taken for a duplicate; a second item of one task is one message, on one subject
        await self._connection.stored(self._entry.item_subject, self._entry.item_body, timeout=ANSWER_SECONDS)

    async def _under_way(self, revision: int) -> bool:
        """Whether the task has an item, waits, or was taken up already."""
        entry = self._entry
        queue = entry.task.queue
        places = (
            (queue_stream(queue), entry.item_subject),
            (DELAY_STREAM, delay_schedule_subject(queue, entry.task.id)),
        )
        for stream, subject in places:
            try:
                await last_message(self._connection, stream, subject, timeout=_LOOK_SECONDS)
            except NotFound:
                continue
            return True
        record = await self._read_back()
        return record is None or record.revision != revision

    async def _refuse(self, error: AjcError, stored: Task, revision: int) -> None:
        """Save the task as `queue_error`; a revision that is lost here means that somebody else decides."""
        reasons = {QueueFull: f"queue {stored.queue} is full", NotFound: f"queue {stored.queue} does not exist"}
        task = stored.replace(state=str(TaskState.QUEUE_ERROR), last_err=reasons.get(type(error), str(error)))
        while True:
            try:
                await save_task(self._connection, task, revision, timeout=ANSWER_SECONDS)
            except Conflict:
                record = await self._read_back()
                if record is None or record.data != task.encode():
                    return
            except (Closed, NotPermitted):
                raise
            except Unavailable as lost:
                await self._again(lost)
                continue
            reach("enqueue.error_saved")
            announce(self._connection, task)
            return

    async def _write(self, subject: str, body: bytes, headers: bytes, point: str) -> PubAck:
        if not self._connection.connected:
            try:
                async with asyncio.timeout(max(self._give_up - self._loop.time(), 0)):
                    await self._connection.wait_connected()
            except TimeoutError:
                raise Unavailable("there is no connection to NATS") from None
        seconds = min(ANSWER_SECONDS, max(self._give_up - self._loop.time(), _PAUSE))
        answer = self._connection.ask(subject, body, headers=headers, timeout=seconds)
        await asyncio.sleep(0)  # what was asked leaves with this turn of the loop
        reach(point)
        found = await answer
        try:
            return read_pub_ack(found, subject)
        except Conflict:
            told = _last_sequence(found.body)
            self._revision_told = None if told is None else int(told[1])
            raise

    async def _again(self, error: Unavailable) -> None:
        """Wait for a connection before the next try, or raise when the time is up."""
        left = self._give_up - self._loop.time()
        try:
            async with asyncio.timeout(max(left, 0)):
                await self._connection.wait_connected()
                await asyncio.sleep(_PAUSE)
        except TimeoutError:
            text = f"{error}; task {self._entry.task.id} may be stored: enqueue it again under the same id"
            raise Unavailable(text) from error
