"""What happens to tasks, as events tell it: a stream of them, and the end of one task.

Events are not stored: one that is published while nobody is subscribed, or while the connection is down, is gone. So
whoever waits for a task also looks at its record from time to time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Self

from ajc.connection import Connection, Message
from ajc.errors import Closed, Malformed, NotFound, NotPermitted, TaskFailed, TaskTimeout, Unavailable
from ajc.events import Event, TaskStateChanged, decode_event
from ajc.subjects import ALL_EVENTS, all_events_subject, event_subject
from ajc.task import FINAL_STATES, Task, TaskState
from ajc.task_records import read_task

_logger: Final = logging.getLogger("ajc.watch")
_KEPT_EVENTS: Final = 65_536
_CLOSED_LOOK: Final = 0.5
_FIRST_LOOK: Final = 0.5
_LONGEST_LOOK: Final = 5.0


class Watch:
    """An open subscription to events: iterate over it, then `close` (or use `async with`).

    With a task's id these are the events of that task; `states_only`: those of its saves, without its progress.
    A reader that falls behind by 65,536 events loses the oldest ones; `missed` counts them.
    """

    def __init__(self, connection: Connection, task_id: str | None = None, *, states_only: bool = False) -> None:
        self._connection = connection
        if task_id is None:
            self._subject = ALL_EVENTS
        else:
            self._subject = event_subject(task_id) if states_only else all_events_subject(task_id)
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._open = False
        self._ended = False
        self.missed = 0

    async def open(self) -> Self:
        """Subscribe: every event that is published after this returns is seen. Raises `Unavailable`."""
        if not self._open:
            self._subscription = await self._connection.subscribe(self._subject, self._received)
            self._open = True
            await self._connection.flush()
        return self

    async def close(self) -> None:
        """End the subscription; a reader gets what has arrived, then the end."""
        self._ended = True
        self._arrived.set()
        if self._open:
            self._open = False
            if not self._connection.closed:
                await self._subscription.unsubscribe()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        await self.open()
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            if self._connection.closed:
                raise Closed
            self._arrived.clear()
            try:
                async with asyncio.timeout(_CLOSED_LOOK):
                    await self._arrived.wait()
            except TimeoutError:
                continue
        return self._events.popleft()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    def _received(self, message: Message) -> None:
        try:
            event = decode_event(message.body)
        except Malformed as error:
            _logger.debug("an event on %s was left out: %s", message.subject, error)
            return
        if len(self._events) >= _KEPT_EVENTS:
            self._events.popleft()
            self.missed += 1
        self._events.append(event)
        self._arrived.set()


async def wait_for_end(connection: Connection, task_id: str, timeout: float | None) -> Task:
    """Return the task once it is complete; woken by its events, and looking by itself every few seconds.

    `timeout` is in seconds, None for ever. Raises `TaskFailed` for any other end, `TaskTimeout`, `NotFound` (no such
    task, or it was removed on its end), `NotPermitted` (to read it), and `Closed`.
    """
    try:
        async with asyncio.timeout(timeout), Watch(connection, task_id, states_only=True) as events:
            task = await _ended(connection, task_id, events)
    except TimeoutError:
        raise TaskTimeout(task_id, timeout or 0.0) from None
    if task.state != TaskState.COMPLETE:
        raise TaskFailed(task)
    return task


async def _ended(connection: Connection, task_id: str, events: Watch) -> Task:
    pause = _FIRST_LOOK
    seen = False
    while True:
        try:
            task = (await read_task(connection, task_id)).task
        except (NotFound, Closed, NotPermitted):
            raise
        except Unavailable:
            task = None  # no answer now; the time-out is the caller's
        if task is not None and task.final:
            return task
        seen = await _final_event(events, pause)
        pause = _FIRST_LOOK if seen else min(2 * pause, _LONGEST_LOOK)


async def _final_event(events: Watch, seconds: float) -> bool:
    """Wait for an event of a final state, at most so long; say whether there was one."""
    try:
        async with asyncio.timeout(seconds):
            async for event in events:
                if isinstance(event, TaskStateChanged) and event.state in FINAL_STATES:
                    return True
    except TimeoutError:
        pass
    return False
