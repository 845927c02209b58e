"""All ports of one server, in memory, on one line and one clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, overload

from ajc.instant import Instant
from ajc.task import Task
from ajc.testing.memory.delay import MemoryCensus, MemoryDelayQueue
from ajc.testing.memory.exchange import MemoryExchange
from ajc.testing.memory.line import Line
from ajc.testing.memory.queue import MemoryQueue
from ajc.testing.memory.store import MemoryDeadLetters, MemoryRecordScan, MemoryTaskStore
from ajc.testing.memory.values import AnyLease, AnyStranded, MemoryLease, MemoryRecord, MemoryStranded
from ajc.testing.memory.work_queue import MemoryWorkQueue
from ajc.work_item import WorkItem

R = TypeVar("R")
L = TypeVar("L", bound=AnyLease)
S = TypeVar("S", bound=AnyStranded)

START: Final = Instant.parse("2026-01-01T00:00:00Z")
LIMIT: Final = 1 << 20
LEASE_NS: Final = 30_000_000_000
_HEADERS_ROOM: Final = 128


class MemoryClock:
    """The time of day, beginning with `START` and going with the event loop's clock; `skew_ns` makes it wrong."""

    def __init__(self) -> None:
        self.skew_ns = 0
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    def now(self) -> Instant:
        """Return the instant, UTC."""
        return START.plus(round((self._loop.time() - self._began) * 1e9) + self.skew_ns)

    def monotonic(self) -> float:
        """Return the event loop's seconds."""
        return self._loop.time()


class MemoryServer(Generic[R, L, S]):
    """One server. It needs a running event loop, and is gone with it.

    `record`, `lease` and `stranded` make the values that its ports hand out: structs of your own with the fields of
    `ajc.testing.memory.values`, called with keywords. `limit` is the most bytes of a message.
    """

    @overload
    def __init__(self: MemoryServer[MemoryRecord, MemoryLease, MemoryStranded], *, limit: int = LIMIT) -> None: ...

    @overload
    def __init__(
        self,
        *,
        record: Callable[..., R],
        lease: Callable[..., L],
        stranded: Callable[..., S],
        limit: int = LIMIT,
    ) -> None: ...

    def __init__(
        self,
        *,
        record: Callable[..., Any] = MemoryRecord,
        lease: Callable[..., Any] = MemoryLease,
        stranded: Callable[..., Any] = MemoryStranded,
        limit: int = LIMIT,
    ) -> None:
        self.line = Line()
        self.clock = MemoryClock()
        self.queues: dict[str, MemoryQueue] = {}
        self.store: MemoryTaskStore[R] = MemoryTaskStore(self.line, self.clock.now, record, limit - _HEADERS_ROOM)
        self.delay = MemoryDelayQueue(self.line, self.clock.now, self.queues)
        self.letters = MemoryDeadLetters(self.line, limit)
        self.exchange = MemoryExchange(self.line, limit)
        self._lease = lease
        self._stranded = stranded
        self._ends: list[MemoryWorkQueue[L]] = []

    def add_queue(
        self, name: str, *, lease_ns: int = LEASE_NS, max_ack_pending: int = -1, max_deliver: int = -1
    ) -> MemoryQueue:
        """Make a queue; -1 is no limit."""
        made = MemoryQueue(name, lease_ns, max_ack_pending=max_ack_pending, max_deliver=max_deliver)
        self.queues[name] = made
        return made

    def work_queue(self, name: str) -> MemoryWorkQueue[L]:
        """Return a bridge's end of the queue: one for each bridge."""
        end = MemoryWorkQueue(self.line, self.queues[name], self._lease)
        self._ends.append(end)
        return end

    def census(self, name: str) -> MemoryCensus[S]:
        """Return the census of the queue."""
        return MemoryCensus(self.line, self.queues[name], self.delay, self._stranded, self.store.revision)

    def scan(self) -> MemoryRecordScan[R]:
        """Return a scan of the store, from its beginning."""
        return MemoryRecordScan(self.line, self.store)

    def enqueue(self, task: Task, *, queue: str = "", item: WorkItem | None = None) -> int:
        """Store the task and its item as a producer does; return the record's revision."""
        revision = self.store.put(task.id, task.encode())
        self.queues[queue or task.queue].put(task.id, item)
        return revision

    def go_away(self) -> None:
        """Be gone: every call raises `Unavailable`, what is sent is lost, pulls under way are forgotten."""
        self.line.up = False
        for queue in self.queues.values():
            queue.drop_requests()
        for end in self._ends:
            end.connection_lost()

    def come_back(self) -> None:
        """Be there again, with all that was stored."""
        self.line.up = True
