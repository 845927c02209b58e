"""The two implementations of the ports behind one face, with what a test does and sees from outside."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from msgspec import Struct

from ajc import subjects
from ajc.connection import Connection, Message
from ajc.context import resolve
from ajc.errors import NotFound
from ajc.exchange import ExecReply, ExecRequest, reply_headers
from ajc.headers import parse_headers
from ajc.instant import Instant
from ajc.queue import Queue
from ajc.task import Task
from ajc.testing.memory import MemoryServer
from ajc.topology import ensure_queue, ensure_stores
from ajc_bridge.decision.admission import Record
from ajc_bridge.decision.transition import DeadLetter
from ajc_bridge.happenings import BeatIgnored, Detail
from ajc_bridge.jetstream.census import JetStreamCensus, JetStreamRecordScan
from ajc_bridge.jetstream.dead_letters import JetStreamDeadLetters
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue
from ajc_bridge.ports import (
    Census,
    DeadLetters,
    DelayQueue,
    Exchange,
    Lease,
    RecordScan,
    Stranded,
    TaskStore,
    WorkQueue,
)

SECOND = 1_000_000_000
Handler = Callable[[ExecRequest], "ExecReply | None"]


class Letter(Struct, frozen=True):
    """A dead letter as it is stored."""

    reason: str
    error: str
    tries: int
    time: Instant
    type: str
    body: bytes


class OpenQueue(Struct):
    """A queue of a test's own: one bridge's end, its census, what came late, what was given up."""

    name: str
    port: WorkQueue
    census: Census
    late: list[Lease]
    given_up: list[int]


class World(Protocol):
    """The ports, and the world behind them."""

    store: TaskStore
    delay: DelayQueue
    letters: DeadLetters
    exchange: Exchange
    ignored: list[Detail]

    def scan(self) -> RecordScan: ...
    def now(self) -> Instant: ...
    def monotonic(self) -> float: ...
    async def queue(
        self, *, lease: float = 30.0, max_ack_pending: int = -1, max_deliver: int = -1, name: str = ""
    ) -> OpenQueue: ...
    async def put_item(self, queue: str, subject_id: str, body: bytes) -> None: ...
    async def items(self, queue: str) -> int: ...
    async def letter(self, queue: str, task_id: str) -> Letter | None: ...
    async def count_letters(self, queue: str) -> int: ...
    async def serve(self, subject: str, handler: Handler) -> None: ...
    async def beat(self, request: ExecRequest, body: bytes) -> None: ...
    @property
    def ignored_beats(self) -> int: ...
    async def go_away(self) -> None: ...
    async def come_back(self) -> None: ...


Opens = Callable[[], AbstractAsyncContextManager[World]]


class Notes:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.details: list[Detail] = []

    def note(self, detail: Detail) -> None:
        self.details.append(detail)


class MemoryWorld:
    """The fake."""

    def __init__(self) -> None:
        self.server = MemoryServer(record=Record, lease=Lease, stranded=Stranded)
        self.store = self.server.store
        self.delay = self.server.delay
        self.letters = self.server.letters
        self.exchange = self.server.exchange
        self.ignored: list[Detail] = []
        self.line = self.server.line
        self.scan = self.server.scan
        self.now = self.server.clock.now
        self.monotonic = self.server.clock.monotonic

    @classmethod
    @asynccontextmanager
    async def open(cls, *, msg_ttl: bool = True) -> AsyncIterator[MemoryWorld]:
        async with asyncio.timeout(3_600):
            world = cls()
            world.store.allow_ttl = msg_ttl
            yield world

    async def queue(
        self, *, lease: float = 30.0, max_ack_pending: int = -1, max_deliver: int = -1, name: str = ""
    ) -> OpenQueue:
        name = name or unique("Q")
        if name not in self.server.queues:
            self.server.add_queue(
                name, lease_ns=int(lease * SECOND), max_ack_pending=max_ack_pending, max_deliver=max_deliver
            )
        port = self.server.work_queue(name)
        opened = OpenQueue(name, port, self.server.census(name), [], [])
        self.server.queues[name].given_up.append(opened.given_up.append)
        await port.start(opened.late.append)
        return opened

    async def put_item(self, queue: str, subject_id: str, body: bytes) -> None:
        self.server.queues[queue].put(subject_id, body)

    async def items(self, queue: str) -> int:
        return len(self.server.queues[queue].items)

    async def letter(self, queue: str, task_id: str) -> Letter | None:
        found = self.letters.stored.get((queue, task_id))
        if found is None:
            return None
        said = found.letter
        return Letter(said.reason, said.error, said.tries, said.time, said.type, found.body)

    async def count_letters(self, queue: str) -> int:
        return sum(name == queue for name, _ in self.letters.stored)

    async def serve(self, subject: str, handler: Handler) -> None:
        self.exchange.answer(subject, handler)

    async def beat(self, request: ExecRequest, body: bytes) -> None:
        self.exchange.beat(request, body)

    @property
    def ignored_beats(self) -> int:
        return self.exchange.ignored

    async def go_away(self) -> None:
        self.server.go_away()

    async def come_back(self) -> None:
        self.server.come_back()


class ServerWorld:
    """A real nats-server, through the adapters."""

    def __init__(self, server: Any, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        journal = Notes()
        self.ignored = journal.details
        self.store = JetStreamTaskStore(connection)
        self.delay = JetStreamDelayQueue(connection)
        self.letters = JetStreamDeadLetters(connection)
        self.exchange = NatsExchange(connection, journal)
        self.ends: list[JetStreamWorkQueue] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, server: Any, *, msg_ttl: bool = True) -> AsyncIterator[ServerWorld]:
        world: ServerWorld | None = None

        def changed(state: str, _error: BaseException | None) -> None:
            if state == "disconnected" and world is not None:
                world.store.connection_lost()
                for end in world.ends:
                    end.connection_lost()

        connection = await Connection.open(resolve(server.url), on_state=changed, private_inbox=True)
        try:
            await ensure_stores(connection, msg_ttl=msg_ttl)
            world = cls(server, connection)
            await world.store.start()
            await world.exchange.start()
            yield world
        finally:
            await connection.close()

    def scan(self) -> RecordScan:
        return JetStreamRecordScan(self.connection)

    def now(self) -> Instant:
        return Instant.now()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def queue(
        self, *, lease: float = 30.0, max_ack_pending: int = -1, max_deliver: int = -1, name: str = ""
    ) -> OpenQueue:
        made = name or unique("Q")
        if not name:
            info = await ensure_queue(self.connection, Queue(made, lease=lease, max_concurrent=max_ack_pending))
            if max_deliver > 0:
                config = dict(info.consumer_config) | {"max_deliver": max_deliver}
                stream = subjects.queue_stream(made)
                request = {"stream_name": stream, "config": config, "action": "update"}
                await self.connection.api(f"CONSUMER.DURABLE.CREATE.{stream}.{subjects.CONSUMER}", request)
        port = JetStreamWorkQueue(self.connection, made, int(lease * SECOND))
        census = JetStreamCensus(self.connection, self.store, made)
        opened = OpenQueue(made, port, census, [], [])
        self.ends.append(port)
        await port.start(opened.late.append)
        await census.listen(opened.given_up.append)
        return opened

    async def put_item(self, queue: str, subject_id: str, body: bytes) -> None:
        await self.connection.stored(subjects.item_subject(queue, subject_id), body)

    async def items(self, queue: str) -> int:
        info = await self.connection.api(f"STREAM.INFO.{subjects.queue_stream(queue)}")
        return int(info["state"]["messages"])

    async def letter(self, queue: str, task_id: str) -> Letter | None:
        query = {"last_by_subj": subjects.dlq_subject(queue, task_id)}
        try:
            answer = await self.connection.api(f"STREAM.MSG.GET.{subjects.DLQ_STREAM}", query)
        except NotFound:
            return None
        message = answer["message"]
        said = parse_headers(base64.b64decode(message["hdrs"]))
        assert said.get("AJ-Task-Id") == task_id
        assert said.get("AJ-Queue") == queue
        return Letter(
            said.get("AJ-Dlq-Reason") or "",
            said.get("AJ-Dlq-Error") or "",
            int(said.get("AJ-Dlq-Tries") or -1),
            Instant.parse(said.get("AJ-Dlq-Time") or ""),
            said.get("AJ-Task-Type") or "",
            base64.b64decode(message.get("data", "")),
        )

    async def count_letters(self, queue: str) -> int:
        query = {"subjects_filter": f"CHORIA_AJ.DLQ.{queue}.*"}
        info = await self.connection.api(f"STREAM.INFO.{subjects.DLQ_STREAM}", query)
        return sum((info["state"].get("subjects") or {}).values())

    async def serve(self, subject: str, handler: Handler) -> None:
        def asked(message: Message) -> None:
            reply = handler(ExecRequest.decode(message.headers, message.body))
            if reply is not None:
                headers = None
                if reply.kind != "success":
                    headers = reply_headers(**{reply.kind: reply.text})
                self.connection.publish(message.reply, reply.body, headers=headers)

        await self.connection.subscribe(subject, asked)
        await self.connection.flush()

    async def beat(self, request: ExecRequest, body: bytes) -> None:
        self.connection.publish(request.heartbeat_subject or "", body)

    @property
    def ignored_beats(self) -> int:
        return sum(isinstance(detail, BeatIgnored) for detail in self.ignored)

    async def go_away(self) -> None:
        self.server.stop()
        await until(lambda: not self.connection.connected)

    async def come_back(self) -> None:
        self.server.start()
        await self.connection.wait_connected()
        for _ in range(100):  # JetStream is up a moment after the port
            try:
                await self.connection.api(f"STREAM.INFO.{subjects.TASKS_STREAM}")
            except Exception:  # noqa: BLE001
                await asyncio.sleep(0.05)
            else:
                return


def unique(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(6)}"


def make_task(**fields: Any) -> Task:
    given: dict[str, Any] = {"id": unique("t"), "type": "kind", "queue": "Q", "state": "new", "created": Instant.now()}
    return Task(**given | fields)


def make_letter(queue: str, task_id: str, **fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "queue": queue,
        "task_id": task_id,
        "type": "kind",
        "reason": "tries",
        "error": "it broke",
        "tries": 3,
        "time": Instant.parse("2026-03-01T12:00:00.123456789Z"),
    }
    return DeadLetter(**given | fields)


def make_request(body: bytes = b"{}", **fields: Any) -> ExecRequest:
    given: dict[str, Any] = {
        "task_id": unique("t"),
        "type": "kind",
        "queue": "Q",
        "try_number": 1,
        "max_tries": 3,
        "deadline": Instant.now(),
        "timeout_ms": 1000,
        "body": body,
    }
    return ExecRequest(**given | fields)


async def until(condition: Callable[[], Any | Awaitable[Any]], seconds: float = 20.0) -> Any:
    """Wait for a condition, a plain or an async one."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")
