"""Many tasks into their queues, pipelined: several hundred under way, outcomes in the order of the tasks.

No future and no task of the event loop per task: the answer to a save sends the item, the answer to the item is the
outcome, and each outcome lets the next task begin. Whatever is not the plain way (refused, lost, a duplicate) is handed
to `ajc.enqueue.Enqueue`, where that task is taken up at the step it had reached.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final

import msgspec

from ajc.answers import read_duplicate, read_sequence
from ajc.connection import Connection
from ajc.enqueue import ANSWER_SECONDS, DEFAULT_TIMEOUT, Enqueue
from ajc.enqueue_commands import commands_of, save_command
from ajc.entry import as_enqueued, prepare
from ajc.errors import AjcError, QueueFull, Unavailable
from ajc.failpoint import reach
from ajc.subjects import check_id, item_subject, task_subject
from ajc.task import Task
from ajc.task_records import NEW_RECORD, check_task_size

IN_FLIGHT: Final = 256
"""Tasks under way at a time."""

_LANDED: Final = 4 * IN_FLIGHT
_ROOM_EVERY: Final = 16
_SWEEP_SECONDS: Final = 0.25
_REFILL: Final = 32
"""So many begin together: the server stores them while the next answers are read."""
_SMALL: Final = 1_000  # with its headers below the limit of any server

Tasks = Iterable[Task] | AsyncIterable[Task]


class _Flight(msgspec.Struct, gc=False):
    """One task under way; `revision` once it is saved, `outcome` once it has landed. Made for every task: cheap."""

    task: Task
    name: bytes
    deadline: float
    outcome: Task | AjcError | None = None
    revision: int | None = None


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
        self._later: AsyncIterator[Task] | None = aiter(tasks) if isinstance(tasks, AsyncIterable) else None
        self._now: Iterator[Task] = iter(()) if isinstance(tasks, AsyncIterable) else iter(tasks)
        self._queue = queue
        self._wait = wait
        self._timeout = timeout
        self._in_flight = in_flight
        self._refill = in_flight - min(_REFILL, in_flight // 2)
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{connection.inbox_prefix}.{secrets.token_hex(8)}.".encode()
        self._cut = len(self._inbox)
        self._send = connection.send
        self._flights: deque[_Flight] = deque()
        self._answers: dict[bytes, _Flight] = {}
        self._under_way = 0
        self._begun = 0
        self._head: asyncio.Future[None] | None = None
        self._careful: set[asyncio.Task[None]] = set()
        self._exhausted = False
        self._failed: BaseException | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._clock = self._loop.time()  # a quarter of a second behind at most

    async def outcomes(self, *, return_errors: bool = True) -> AsyncGenerator[Task | AjcError, None]:
        """Yield a `Task`, or the error that it met, for each task; without `return_errors` the first one is raised."""
        flights = self._flights
        subscription = await self._connection.subscribe_raw(f"{self._inbox.decode()}*", self._answered)
        self._connection.refused.tell(self._refused)
        self._sweep()
        try:
            while True:
                await self._connection.writable()
                await self._begin_more()
                if not flights:
                    break
                await self._wait_for_head()
                while flights and (outcome := flights[0].outcome) is not None:
                    flights.popleft()
                    if isinstance(outcome, AjcError) and not return_errors:
                        raise outcome
                    yield outcome
            if self._failed is not None:
                raise self._failed
        finally:
            self._exhausted = True
            while flights:
                await self._wait_for_head()
                flights.popleft()
            self._connection.refused.tell_no_more(self._refused)
            if self._sweeper is not None:
                self._sweeper.cancel()
            if not self._connection.closed:
                await subscription.unsubscribe()

    async def _begin_more(self) -> None:
        if self._later is None:
            self._fill()
            return
        while not self._exhausted and self._under_way < self._in_flight and len(self._flights) < _LANDED:
            try:
                self._begin(await anext(self._later))
            except StopAsyncIteration:
                self._exhausted = True
            except Exception as error:  # noqa: BLE001  (raised once what is under way has landed)
                self._failed, self._exhausted = error, True

    def _fill(self) -> None:
        """Begin as many as may be under way."""
        flights = self._flights
        while self._under_way < self._in_flight and not self._exhausted and len(flights) < _LANDED:
            if not self._begun % _ROOM_EVERY and not self._connection.room:
                return  # the loop of outcomes waits for room
            try:
                task = next(self._now)
            except StopIteration:
                self._exhausted = True
            except BaseException as error:  # noqa: BLE001  (raised once what is under way has landed)
                self._failed, self._exhausted = error, True
            else:
                self._begin(task)

    async def _wait_for_head(self) -> None:
        if self._flights[0].outcome is None:
            self._head = self._loop.create_future()
            try:
                await self._head
            finally:
                self._head = None

    def _begin(self, task: Task) -> None:
        try:
            task = as_enqueued(task, self._queue)
            commands_of(task.queue)
            task_id = check_id(task.id).encode()
            body = task.encode()
            if len(body) > _SMALL:
                check_task_size(self._connection, len(NEW_RECORD) + len(body))
        except AjcError as error:
            self._flights.append(_Flight(task, b"", 0.0, error))
            return
        self._begun += 1
        name = b"%x" % self._begun
        flight = _Flight(task, name, self._clock + ANSWER_SECONDS)
        self._flights.append(flight)
        self._under_way += 1
        reach("enqueue.begin")
        try:
            self._send(save_command(task_id, body, self._inbox, name))
        except Unavailable:
            self._go_carefully(flight)
        else:
            self._answers[name] = flight

    def _answered(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        flight = self._answers.get(subject[self._cut :])
        if flight is not None:
            if flight.revision is None:
                self._saved(flight, body, headers)
            else:
                self._item_stored(flight, body, headers)

    def _saved(self, flight: _Flight, body: bytes, headers: bytes | None) -> None:
        task = flight.task
        try:
            flight.revision = read_sequence(body, headers)
            reach("enqueue.saved")
            commands = commands_of(task.queue).announce_and_queue(task, self._inbox, flight.name)
            reach("enqueue.event_sent")  # with the item, from here on
            flight.deadline = self._clock + ANSWER_SECONDS
            self._send(commands)
        except AjcError:
            self._go_carefully(flight)

    def _item_stored(self, flight: _Flight, body: bytes, headers: bytes | None) -> None:
        try:
            duplicate = read_duplicate(body, headers, f"CHORIA_AJ.Q.{flight.task.queue}")
        except QueueFull:
            self._go_carefully(flight, refused=QueueFull(flight.task.queue))
            return
        except AjcError:
            self._go_carefully(flight)
            return
        if duplicate:
            self._go_carefully(flight)
            return
        reach("enqueue.item_stored")
        del self._answers[flight.name]
        self._land(flight, flight.task)
        if self._under_way <= self._refill and self._later is None:
            self._fill()

    def _refused(self, subject: str) -> None:
        """Take up what the server did not let through: there will be no answer. Each is told, in their order."""
        for flight in self._answers.values():
            if subject == self._asked(flight).lower():
                self._go_carefully(flight)
                return

    @staticmethod
    def _asked(flight: _Flight) -> str:
        task = flight.task
        return task_subject(task.id) if flight.revision is None else item_subject(task.queue, task.id)

    def _sweep(self) -> None:
        """Take up what got no answer in time, or lost its connection."""
        self._clock = self._loop.time()
        now = self._clock if self._connection.connected else float("inf")
        for flight in [flight for flight in self._answers.values() if flight.deadline <= now]:
            self._go_carefully(flight, lost=True)
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _go_carefully(self, flight: _Flight, *, lost: bool = False, refused: QueueFull | None = None) -> None:
        self._answers.pop(flight.name, None)
        entry = prepare(self._connection, flight.task, flight.task.queue)
        careful = Enqueue(self._connection, entry, wait=self._wait, timeout=self._timeout)
        careful.save_may_have_landed = lost
        careful.item_may_have_landed = lost and flight.revision is not None
        running = self._loop.create_task(self._careful_way(flight, careful, refused))
        self._careful.add(running)
        running.add_done_callback(self._careful.discard)

    async def _careful_way(self, flight: _Flight, careful: Enqueue, refused: QueueFull | None) -> None:
        outcome: Task | AjcError = Unavailable("the enqueue was cancelled: whether the task is stored is unknown")
        try:
            if flight.revision is None:
                outcome = await careful.run()
            else:
                outcome = await careful.run_saved(flight.revision, refused)
        except AjcError as error:
            outcome = error
        finally:
            self._land(flight, outcome)

    def _land(self, flight: _Flight, outcome: Task | AjcError) -> None:
        flight.outcome = outcome
        self._under_way -= 1
        head = self._head
        if head is not None and not head.done() and self._flights[0] is flight:
            head.set_result(None)
