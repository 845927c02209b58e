"""Many tasks into their queues, pipelined: several hundred under way, outcomes in the order of the tasks.

No task of the event loop per task: the answer to a save sends the item, the answer to the item is the outcome.
Whatever is not the plain way (refused, lost, a duplicate) is handed to `ajc.enqueue.Enqueue`, where that task is
taken up at the step it had reached.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from functools import partial
from typing import Final

from ajc.connection import Answer, Connection, read_pub_ack
from ajc.enqueue import ANSWER_SECONDS, DEFAULT_TIMEOUT, Enqueue
from ajc.entry import Entry, announce, prepare
from ajc.errors import AjcError, Unavailable
from ajc.failpoint import reach
from ajc.task import Task
from ajc.task_records import NEW_RECORD

IN_FLIGHT: Final = 256
"""Tasks under way at a time."""

Tasks = Iterable[Task] | AsyncIterable[Task]


class _Flight:
    """One task under way; `outcome` once it has landed."""

    __slots__ = ("entry", "outcome")

    def __init__(self, entry: Entry | None, outcome: Task | AjcError | None = None) -> None:
        self.entry = entry
        self.outcome = outcome


class EnqueueMany:
    """The outcomes, one a task, in the order of the tasks. What is under way when the iteration ends still lands."""

    def __init__(
        self,
        connection: Connection,
        tasks: Tasks,
        *,
        queue: str,
        wait: float = 0.0,
        timeout: float = DEFAULT_TIMEOUT,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._connection = connection
        self._tasks = tasks
        self._queue = queue
        self._wait = wait
        self._timeout = timeout
        self._in_flight = in_flight
        self._flights: deque[_Flight] = deque()
        self._landed: asyncio.Future[None] | None = None
        self._careful: set[asyncio.Task[None]] = set()

    async def outcomes(self) -> AsyncGenerator[Task | AjcError, None]:
        """Yield a `Task`, or the error that it met, for each task."""
        flights = self._flights
        source = _iterate(self._tasks)
        more = True
        try:
            while more or flights:
                while more and len(flights) < self._in_flight:
                    task = await anext(source, None)
                    if task is None:
                        more = False
                    else:
                        flights.append(self._start(task))
                await self._connection.writable()
                if flights and flights[0].outcome is None:
                    await self._wait_for_head()
                while flights and (outcome := flights[0].outcome) is not None:
                    flights.popleft()
                    yield outcome
        finally:
            await self._land_everything()

    async def _wait_for_head(self) -> None:
        self._landed = asyncio.get_running_loop().create_future()
        try:
            await self._landed
        finally:
            self._landed = None

    async def _land_everything(self) -> None:
        while any(flight.outcome is None for flight in self._flights):
            while self._flights and self._flights[0].outcome is not None:
                self._flights.popleft()
            if self._flights:
                await self._wait_for_head()

    def _start(self, task: Task) -> _Flight:
        try:
            entry = prepare(self._connection, task, self._queue)
            reach("enqueue.begin")
            answer = self._connection.ask(entry.subject, entry.body, headers=NEW_RECORD, timeout=ANSWER_SECONDS)
        except Unavailable:
            flight = _Flight(entry)
            self._go_carefully(flight, None, save_sent=False, item_sent=False)
        except AjcError as error:
            return _Flight(None, error)
        else:
            flight = _Flight(entry)
            answer.add_done_callback(partial(self._saved, flight))
        return flight

    def _saved(self, flight: _Flight, answer: asyncio.Future[Answer]) -> None:
        entry = flight.entry
        assert entry is not None
        revision: int | None = None
        try:
            revision = read_pub_ack(answer.result(), entry.subject).seq
            reach("enqueue.saved")
            announce(self._connection, entry.task)
            reach("enqueue.event_sent")
            item = self._connection.ask(
                entry.item_subject, entry.item_body, headers=entry.item_headers, timeout=ANSWER_SECONDS
            )
        except (AjcError, asyncio.CancelledError) as error:
            self._go_carefully(flight, revision, save_sent=isinstance(error, Unavailable), item_sent=False)
        else:
            item.add_done_callback(partial(self._item_stored, flight, revision))

    def _item_stored(self, flight: _Flight, revision: int, answer: asyncio.Future[Answer]) -> None:
        entry = flight.entry
        assert entry is not None
        try:
            duplicate = read_pub_ack(answer.result(), entry.item_subject).duplicate
        except (AjcError, asyncio.CancelledError) as error:
            self._go_carefully(flight, revision, save_sent=True, item_sent=isinstance(error, Unavailable))
            return
        if duplicate:
            self._go_carefully(flight, revision, save_sent=True, item_sent=False)
            return
        reach("enqueue.item_stored")
        self._land(flight, entry.task)

    def _go_carefully(self, flight: _Flight, revision: int | None, *, save_sent: bool, item_sent: bool) -> None:
        entry = flight.entry
        assert entry is not None
        careful = Enqueue(self._connection, entry, wait=self._wait, timeout=self._timeout)
        careful.save_may_have_landed = save_sent
        careful.item_may_have_landed = item_sent
        running = asyncio.get_running_loop().create_task(self._careful_way(flight, careful, revision))
        self._careful.add(running)
        running.add_done_callback(self._careful.discard)

    async def _careful_way(self, flight: _Flight, careful: Enqueue, revision: int | None) -> None:
        outcome: Task | AjcError = Unavailable("the enqueue was cancelled: whether the task is stored is unknown")
        try:
            outcome = await (careful.run() if revision is None else careful.run_saved(revision))
        except AjcError as error:
            outcome = error
        finally:
            self._land(flight, outcome)

    def _land(self, flight: _Flight, outcome: Task | AjcError) -> None:
        flight.outcome = outcome
        landed = self._landed
        if landed is not None and not landed.done() and self._flights and self._flights[0] is flight:
            landed.set_result(None)


async def _iterate(tasks: Tasks) -> AsyncIterator[Task]:
    if isinstance(tasks, AsyncIterable):
        async for task in tasks:
            yield task
    else:
        for task in tasks:
            yield task
