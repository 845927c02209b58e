"""A bridge's pipeline on a server in memory, with what its tests put in and look at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ajc.exchange import ExecReply, ExecRequest
from ajc.task import Task
from ajc.testing.memory import MemoryServer, MemoryWorkQueue
from ajc_bridge.decision.admission import Record
from ajc_bridge.decision.backoff import Backoff
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.happenings import Detail
from ajc_bridge.pipeline.cancellations import Cancellations
from ajc_bridge.pipeline.dispatch import ExecPolicy
from ajc_bridge.pipeline.fair_share import FairShare
from ajc_bridge.pipeline.lane import Lane
from ajc_bridge.ports import Lease, Ports, Stranded

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
QUEUE = "Q"
SUBJECT = "ajc.exec.kind"
LEASE_SECONDS = 30.0
STEP = 7 * SECOND
SUCCESS = ExecReply("success", body=b'"done"')


class Notes:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.details: list[Detail] = []

    def note(self, detail: Detail) -> None:
        self.details.append(detail)

    def of(self, kind: type[Detail]) -> list[Any]:
        return [detail for detail in self.details if isinstance(detail, kind)]


class Pipe:
    """One server, one queue, and one bridge's way through it."""

    def __init__(self, *, limit: int = 1 << 20, lease_ns: int = int(LEASE_SECONDS * SECOND), **policy: Any) -> None:
        self.server: MemoryServer[Record, Lease, Stranded] = MemoryServer(
            record=Record, lease=Lease, stranded=Stranded, limit=limit
        )
        self.line = self.server.line
        self.store = self.server.store
        self.exchange = self.server.exchange
        self.notes = Notes()
        self.ports = make_ports(self.server, self.notes)
        given: dict[str, Any] = {"queue": QUEUE, "lease_ns": lease_ns, "max_run_time_ns": 10 * MINUTE, "max_tries": 5}
        self.policy = QueuePolicy(**given | {"backoff": Backoff("flat", (STEP,))} | policy)
        self.source = self.server.add_queue(QUEUE, lease_ns=lease_ns)
        self.end: MemoryWorkQueue[Lease] = self.server.work_queue(QUEUE)

    def now(self) -> Any:
        return self.server.clock.now()

    def enqueue(self, *, id: str = "t1", **fields: Any) -> Task:  # noqa: A002
        task = make_task(self.now(), id=id, **fields)
        self.server.enqueue(task, queue=QUEUE)
        return task

    async def lease(self) -> Lease:
        """Take the one item that is there."""
        got: list[Lease] = []
        await self.end.pull(1, 100, got.append)
        (lease,) = got
        return lease

    def record(self, task_id: str = "t1") -> Record:
        record = self.store.get(task_id)
        assert record is not None
        return record

    def task(self, task_id: str = "t1") -> Task:
        task = self.record(task_id).task
        assert task is not None
        return task

    @property
    def letters(self) -> dict[str, str]:
        """Reasons of the dead letters, by task."""
        return {task_id: letter.letter.reason for (_, task_id), letter in self.server.letters.stored.items()}


def make_ports(server: MemoryServer[Record, Lease, Stranded], journal: Notes) -> Ports:
    return Ports(
        store=server.store,
        delay=server.delay,
        letters=server.letters,
        exchange=server.exchange,
        journal=journal,
        clock=server.clock,
    )


def make_task(now: Any, **fields: Any) -> Task:
    given: dict[str, Any] = {
        "id": "t1",
        "type": "kind",
        "queue": QUEUE,
        "state": "new",
        "payload": b'{"a":1}',
        "max_tries": 3,
        "created": now,
    }
    return Task(**given | fields)


class Bridge:
    """Lanes of one process: what `serving` puts together."""

    def __init__(
        self,
        server: MemoryServer[Record, Lease, Stranded],
        *,
        slots: int,
        notes: Notes | None = None,
        exec_policy: ExecPolicy | None = None,
    ) -> None:
        self.server = server
        self.notes = notes or Notes()
        self.exec_policy = exec_policy or ExecPolicy()
        self.ports = make_ports(server, self.notes)
        self.share = FairShare(slots, self.notes)
        self.cancellations = Cancellations(self.ports)
        self.lanes: dict[str, Lane] = {}
        self.runs: dict[str, asyncio.Task[None]] = {}

    def lane(self, name: str = QUEUE, *, weight: int = 10, limit: int = 0, **policy: Any) -> Lane:
        lease_ns = int(self.server.queues[name].lease_seconds * SECOND)
        given: dict[str, Any] = {"queue": name, "lease_ns": lease_ns, "max_run_time_ns": 10 * MINUTE, "max_tries": 5}
        rules = QueuePolicy(**given | {"backoff": Backoff("flat", (STEP,))} | policy)
        self.share.add(name, weight, limit)
        end = self.server.work_queue(name)
        lane = self.lanes[name] = Lane(
            self.ports, end, rules, self.exec_policy, self.share, cancellations=self.cancellations
        )
        end._late = lane.take
        self.runs[name] = asyncio.create_task(lane.run())
        return lane

    async def stop(self) -> None:
        """Take nothing in any more, and let what runs end."""
        for lane in self.lanes.values():
            lane.stop()
        await asyncio.gather(*self.runs.values())

    @property
    def running(self) -> int:
        return sum(lane.running for lane in self.lanes.values())


def takes(seconds: float, reply: ExecReply = SUCCESS) -> Callable[[ExecRequest], Awaitable[ExecReply]]:
    """A responder that needs some time."""

    async def respond(_request: ExecRequest) -> ExecReply:
        await asyncio.sleep(seconds)
        return reply

    return respond


async def until(condition: Callable[[], Any], seconds: float = 5_000.0) -> Any:
    """Wait for a condition, in virtual seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        found = condition()
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


def assert_at_rest(share: FairShare) -> None:
    """Every slot is back."""
    assert (share._used, share._busy) == (0, 0)
    assert all((lane.used, lane.busy) == (0, 0) for lane in share._lanes.values())
