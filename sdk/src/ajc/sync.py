"""The producer's side, blocking: for scripts, and for web frameworks that are not async.

One event loop in a thread of its own does the work; any number of threads may call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Literal, Self, TypeVar, overload

from ajc.client import Client, connect
from ajc.dead_letters import DeadLetter
from ajc.enqueue import DEFAULT_TIMEOUT
from ajc.errors import AjcError, Closed
from ajc.events import Event
from ajc.making_tasks import DEFAULT_MAX_TRIES, Deadline
from ajc.queue import Duration, Queue, QueueInfo
from ajc.subjects import DEFAULT_QUEUE
from ajc.task import Task
from ajc.trace_context import producers_context
from ajc.watch import Watch

_T = TypeVar("_T")
_CHUNK: Final = 1024
_BATCH: Final = 256
_JOIN_SECONDS: Final = 10.0


def connect_sync(
    server: str | Sequence[str] | None = None,
    *,
    context: str | None = None,
    name: str = "ajc",
    wait_for_server: bool = False,
    timeout: Duration = DEFAULT_TIMEOUT,
) -> SyncClient:
    """Connect, and return a client whose methods block. Use it in a `with` block, or `close` it.

    Arguments and errors are those of `ajc.connect`.
    """
    return SyncClient(
        lambda: connect(server, context=context, name=name, wait_for_server=wait_for_server, timeout=timeout)
    )


class SyncClient:
    """`ajc.Client`, blocking, and safe to share between threads. In an event loop's own thread it blocks that loop."""

    def __init__(self, connecting: Callable[[], Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ajc-sync", daemon=True)
        self._thread.start()
        self._context = connecting()
        try:
            self._client: Client = self._call(self._context.__aenter__())
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """Send what is pending and close for good. Calling it again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._wait(self._context.__aexit__(None, None, None))
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def enqueue(
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
        """Store a task and its queue entry: see `ajc.Client.enqueue`."""
        if traceparent is None:  # in this thread: the loop's own has another current span
            traceparent, tracestate = producers_context(traceparent, tracestate)
        return self._call(
            self._client.enqueue(
                type,
                payload,
                queue=queue,
                id=id,
                deadline=deadline,
                max_tries=max_tries,
                wait=wait,
                traceparent=traceparent,
                tracestate=tracestate,
            )
        )

    @overload
    def enqueue_many(
        self, tasks: Iterable[Task], *, queue: str = ..., wait: Duration = ..., return_errors: Literal[False] = ...
    ) -> Iterator[Task]: ...
    @overload
    def enqueue_many(
        self, tasks: Iterable[Task], *, queue: str = ..., wait: Duration = ..., return_errors: Literal[True]
    ) -> Iterator[Task | AjcError]: ...

    def enqueue_many(
        self,
        tasks: Iterable[Task],
        *,
        queue: str = DEFAULT_QUEUE,
        wait: Duration = 0.0,
        return_errors: bool = False,
    ) -> Iterator[Task | AjcError]:
        """Store many tasks, one outcome each, in their order: see `ajc.Client.enqueue_many`.

        `tasks` is read in the calling thread, a thousand at a time.
        """
        source = iter(tasks)
        while chunk := list(islice(source, _CHUNK)):
            for outcome in self._call(self._land(chunk, queue, wait)):
                if isinstance(outcome, AjcError) and not return_errors:
                    raise outcome
                yield outcome

    def load(self, task_id: str) -> Task:
        """Return the task as it is stored now. Raises `NotFound`."""
        return self._call(self._client.load(task_id))

    def result(self, task_id: str, timeout: Duration | None = None) -> Task:
        """Wait until the task is complete: see `ajc.Client.result`."""
        return self._call(self._client.result(task_id, timeout))

    def watch(self, task_id: str | None = None) -> Iterator[Event]:
        """Return the events of all tasks, or of one, from now on."""
        events = self._client.watch(task_id)
        self._call(events.open())
        return self._watched(events)

    def retry(self, task_id: str, *, queue: str | None = None, deadline: Deadline | None = None) -> Task:
        """Queue a task again: see `ajc.Client.retry`."""
        return self._call(self._client.retry(task_id, queue=queue, deadline=deadline))

    def cancel(self, task_id: str, reason: str = "") -> Task:
        """Stop a task for good, waiting or running: see `ajc.Client.cancel`."""
        return self._call(self._client.cancel(task_id, reason))

    def delete(self, task_id: str, *, force: bool = False) -> Task:
        """Remove a task with everything that belongs to it: see `ajc.Client.delete`."""
        return self._call(self._client.delete(task_id, force=force))

    def tasks(
        self,
        *,
        states: Collection[str] = (),
        queue: str | None = None,
        type: str | None = None,  # noqa: A002  (the word of the wire)
        limit: int | None = None,
    ) -> Iterator[Task]:
        """Yield stored tasks: see `ajc.Client.tasks`."""
        return self._each(self._client.tasks(states=states, queue=queue, type=type, limit=limit))

    def ensure_queue(self, queue: Queue) -> QueueInfo:
        """Make the queue where it is missing: see `ajc.Client.ensure_queue`."""
        return self._call(self._client.ensure_queue(queue))

    def queue(self, name: str) -> QueueInfo:
        """Return the queue as the server has it. Raises `NotFound`."""
        return self._call(self._client.queue(name))

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return self._call(self._client.queues())

    def purge_queue(self, name: str) -> int:
        """Remove every entry of the queue; return how many there were."""
        return self._call(self._client.purge_queue(name))

    def delete_queue(self, name: str) -> None:
        """Remove the queue with its entries."""
        self._call(self._client.delete_queue(name))

    def dead_letters(self, queue: str | None = None) -> Iterator[DeadLetter]:
        """Yield the dead letters of all queues, or of one, the oldest first."""
        return self._each(self._client.dead_letters(queue))

    def dead_letter(self, task_id: str, queue: str | None = None) -> DeadLetter:
        """Return the dead letter of a task. Raises `NotFound`."""
        return self._call(self._client.dead_letter(task_id, queue))

    def _watched(self, events: Watch) -> Iterator[Event]:
        try:
            while True:
                yield from self._call(_next_of(events, 1))
        finally:
            with suppress(Closed):
                self._call(events.close())

    async def _land(self, tasks: list[Task], queue: str, wait: Duration) -> list[Task | AjcError]:
        return [
            outcome async for outcome in self._client.enqueue_many(tasks, queue=queue, wait=wait, return_errors=True)
        ]

    def _each(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        while batch := self._call(_next_of(items, _BATCH)):
            yield from batch

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._closed:
            work.close()
            raise Closed
        return self._wait(work)

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run it in the loop's thread; an interrupt of the waiting thread cancels it."""
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except CancelledError:  # by another thread's close
            raise Closed from None
        except BaseException:
            waiting.cancel()
            raise

    def _stop(self) -> None:
        self._closed = True

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=_JOIN_SECONDS / 2)
            await self._loop.shutdown_asyncgens()
            self._loop.call_soon(self._loop.stop)  # once this has told that it is done

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(_JOIN_SECONDS)
        if not self._loop.is_running():
            self._loop.close()


async def _next_of(items: AsyncIterator[_T], most: int) -> list[_T]:
    """Take up to so many items, fewer only at the end."""
    batch: list[_T] = []
    while len(batch) < most:
        try:
            batch.append(await anext(items))
        except StopAsyncIteration:
            break
    return batch
