"""The producer's side: `async with ajc.connect() as client`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Literal, Self, overload

from ajc.cancelling import cancel_task
from ajc.connection import Connection, State
from ajc.context import resolve
from ajc.dead_letters import DeadLetter, list_dead_letters, read_dead_letter
from ajc.enqueue import DEFAULT_TIMEOUT, Enqueue
from ajc.enqueue_many import EnqueueMany, Tasks
from ajc.entry import prepare
from ajc.errors import AjcError, InvalidValue
from ajc.making_tasks import DEFAULT_MAX_TRIES, Deadline, new_task
from ajc.queue import NANOSECONDS, Duration, Queue, QueueInfo, nanoseconds
from ajc.retrying import delete_task, retry_task
from ajc.subjects import DEFAULT_QUEUE, check_queue
from ajc.task import Task
from ajc.task_records import read_task, stored_tasks
from ajc.topology import delete_queue, ensure_queue, list_queues, purge_queue, read_queue
from ajc.watch import Watch, wait_for_end

_logger: Final = logging.getLogger("ajc")


@asynccontextmanager
async def connect(
    server: str | Sequence[str] | None = None,
    *,
    context: str | None = None,
    name: str = "ajc",
    wait_for_server: bool = False,
    timeout: Duration = DEFAULT_TIMEOUT,
) -> AsyncIterator[Client]:
    """Connect to NATS for the time of an `async with` block.

    Where to: `server` (one URL, or several), a NATS `context`, else `$NATS_CONTEXT`, `$NATS_URL`, the selected
    context, the local server. The connection comes back by itself when the server does. With `wait_for_server` there
    need be none at first. `timeout` (timedelta or seconds) is how long an enqueue goes on while no answers come.

    Raises `NotFound` (no such context), `InvalidValue`, `Unavailable` (nobody there), `Closed` (refused: credentials).
    """
    connection = await Connection.open(
        resolve(server, context), name=name, on_state=_log_state, wait_for_server=wait_for_server
    )
    client = Client(connection, timeout=timeout)
    try:
        yield client
    finally:
        await client.close()


class Client:
    """Enqueues tasks, reads them, waits for them, and looks after queues. Made by `connect`.

    Every method raises errors of `ajc.errors` only, among them always `Unavailable` (no answer in time), `Closed` and
    `NotPermitted`. Not thread-safe: one event loop uses it; `ajc.connect_sync` gives what threads can share.
    """

    def __init__(self, connection: Connection, *, timeout: Duration = DEFAULT_TIMEOUT) -> None:
        self._connection = connection
        self._timeout = _seconds("timeout", timeout)

    @property
    def connection(self) -> Connection:
        """The connection itself, for what this class has no method for."""
        return self._connection

    async def close(self) -> None:
        """Send what is pending and close for good. Calling it again does nothing."""
        if not self._connection.closed:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    # tasks

    async def enqueue(
        self,
        type: str,  # noqa: A002  (the word of the wire)
        payload: Any = None,
        *,
        queue: str = DEFAULT_QUEUE,
        id: str | None = None,  # noqa: A002  (likewise)
        deadline: Deadline | None = None,
        max_tries: int = DEFAULT_MAX_TRIES,
        wait: Duration = 0.0,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Task:
        """Store a task and its queue entry, and return it.

        `payload` is any JSON value, or bytes as they are. The task expires at its `deadline` (a timedelta or seconds
        from now, or an aware datetime), and is tried `max_tries` times at most (0: its queue says). A full queue is
        tried for `wait` (timedelta or seconds) before the task is refused. With an `id` of yours the call can be
        repeated after any error or crash: the task is stored once, and `AlreadyExists` says that it is there (and
        that its queue entry was made sure of). `traceparent` and `tracestate` (W3C Trace Context) reach its handler; by
        default OpenTelemetry's current ones, where it is in use, and none with `traceparent=""`.

        Raises `AlreadyExists`, `QueueFull` and `NotFound` (no such queue; in both cases the task is kept as
        `queue_error`), `TooLarge`, `InvalidName`, `InvalidValue`, `StoreError`; after `Unavailable` enqueue again
        under the same id. Of that kind, but not to be repeated: `NotPermitted` without the right to the store (nothing
        is stored) or to the queue (a new task is kept as `queue_error`).
        """
        task = new_task(
            type,
            payload,
            id=id,
            deadline=deadline,
            max_tries=max_tries,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        entry = prepare(self._connection, task, queue)
        return await Enqueue(self._connection, entry, wait=_seconds("wait", wait), timeout=self._timeout).run()

    @overload
    def enqueue_many(
        self, tasks: Tasks, *, queue: str = ..., wait: Duration = ..., return_errors: Literal[False] = ...
    ) -> AsyncIterator[Task]: ...
    @overload
    def enqueue_many(
        self, tasks: Tasks, *, queue: str = ..., wait: Duration = ..., return_errors: Literal[True]
    ) -> AsyncIterator[Task | AjcError]: ...

    def enqueue_many(
        self, tasks: Tasks, *, queue: str = DEFAULT_QUEUE, wait: Duration = 0.0, return_errors: bool = False
    ) -> AsyncIterator[Task | AjcError]:
        """Store many tasks (of `ajc.new_task`), several hundred at a time; yield one outcome a task, in their order.

        `tasks` is any iterable, asynchronous or not; each goes to its own queue, or to `queue`. The first error is
        raised in its task's place, once everything that is under way has landed; with `return_errors` each error is
        yielded in its task's place instead, and the rest goes on. Errors as `enqueue`.
        """
        check_queue(queue)
        many = EnqueueMany(self._connection, tasks, queue=queue, wait=_seconds("wait", wait), timeout=self._timeout)
        return many.outcomes(return_errors=return_errors)

    async def load(self, task_id: str) -> Task:
        """Return the task as it is stored now. Raises `NotFound` and `MalformedTask`."""
        return (await read_task(self._connection, task_id)).task

    async def result(self, task_id: str, timeout: Duration | None = None) -> Task:
        """Wait until the task is complete and return it; `.result` has the result. `timeout`: a timedelta or seconds.

        Raises `TaskFailed` when it ended otherwise, `TaskTimeout`, `NotFound` (also for one that is removed on its
        end), and `NotPermitted` without the right to read it.
        """
        return await wait_for_end(self._connection, task_id, None if timeout is None else _seconds("timeout", timeout))

    def watch(self, task_id: str | None = None) -> Watch:
        """Return the events of all tasks, or of one, from now on: `async for event in client.watch()`.

        Events are published once and not stored. `async with client.watch() as events` is subscribed when the block
        begins.
        """
        return Watch(self._connection, task_id)

    async def retry(self, task_id: str, *, queue: str | None = None, deadline: Deadline | None = None) -> Task:
        """Queue a task again, whatever its end was, or now when it waits for a retry; return it.

        Its tries stay, or start from 0 when they were used up. A passed deadline needs a new one. Raises `NotFound`,
        `Conflict` (it is queued, blocked or running), `QueueFull`.
        """
        return await retry_task(self._connection, task_id, queue=queue, deadline=deadline)

    async def cancel(self, task_id: str, reason: str = "") -> Task:
        """Stop a task for good, waiting or running, and return it: `terminated`, `cancelled` at, with the reason.

        It needs no bridge. A running attempt is told, and ends; its result is not kept. The tries stay, and there is
        no dead letter. Cancelling it again changes nothing, and after `Unavailable` makes sure of it. Raises
        `NotFound`, `Conflict` when it has ended before: the error's `task` says how, and `NotPermitted`, for the right
        to take its item away as well: then it is cancelled, and its item is left.
        """
        return await cancel_task(self._connection, task_id, reason, timeout=self._timeout)

    async def delete(self, task_id: str, *, force: bool = False) -> Task:
        """Remove a task with everything that belongs to it; return what it was.

        Raises `NotFound`, and `Conflict` while it runs, unless `force`d.
        """
        return await delete_task(self._connection, task_id, force=force)

    async def tasks(
        self,
        *,
        states: Collection[str] = (),
        queue: str | None = None,
        type: str | None = None,  # noqa: A002  (the word of the wire)
        limit: int | None = None,
    ) -> AsyncIterator[Task]:
        """Yield stored tasks, the longest unchanged one first; of these states, this queue, this type where given."""
        left = limit
        async for record in stored_tasks(self._connection):
            task = record.task
            if (
                (states and task.state not in states)
                or (queue is not None and task.queue != queue)
                or (type is not None and task.type != type)
            ):
                continue
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield task

    # queues

    async def ensure_queue(self, queue: Queue) -> QueueInfo:
        """Make the queue where it is missing, else leave it as it is; return what is there.

        Each setting that was given and is another one there is logged as a warning, and is in `QueueInfo.differences`.
        """
        info = await ensure_queue(self._connection, queue)
        for line in info.differences:
            _logger.warning("queue %s is there already, and its %s", queue.name, line)
        return info

    async def queue(self, name: str) -> QueueInfo:
        """Return the queue as the server has it. Raises `NotFound`."""
        return await read_queue(self._connection, name)

    async def queues(self) -> list[str]:
        """Return the names of all queues."""
        return await list_queues(self._connection)

    async def purge_queue(self, name: str) -> int:
        """Remove every entry of the queue; return how many there were. The tasks' records stay. Raises `NotFound`."""
        return await purge_queue(self._connection, name)

    async def delete_queue(self, name: str) -> None:
        """Remove the queue with its entries. The tasks' records stay. Raises `NotFound`."""
        await delete_queue(self._connection, name)

    # dead letters

    def dead_letters(self, queue: str | None = None) -> AsyncIterator[DeadLetter]:
        """Yield the dead letters of all queues, or of one, the oldest first."""
        return list_dead_letters(self._connection, queue)

    async def dead_letter(self, task_id: str, queue: str | None = None) -> DeadLetter:
        """Return the dead letter of a task. Raises `NotFound`."""
        return await read_dead_letter(self._connection, task_id, queue)


def _seconds(field: str, duration: object) -> float:
    if isinstance(duration, timedelta):
        seconds = (nanoseconds(duration) or 0) / NANOSECONDS
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise InvalidValue(field, duration, "is a timedelta or seconds")
    if not 0 <= seconds < float("inf"):
        raise InvalidValue(field, duration, "is 0 or more")
    return seconds


def _log_state(state: State, error: BaseException | None) -> None:
    if state == "disconnected":
        _logger.warning("the connection to NATS broke; trying again")
    elif state == "reconnected":
        _logger.info("connected to NATS again")
    elif state == "closed":
        _logger.debug("the connection to NATS is closed")
    elif error is not None:
        _logger.debug("NATS: %s", error)  # each failed try to connect among them
