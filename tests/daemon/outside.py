"""What a test sees and does from outside: tasks and items written raw, what the server stores and publishes read."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from bridge_process import BridgeProcess, until
from scripted_responder import Reply, Responder, Script

from ajc import ksuid, subjects
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message, read_pub_ack
from ajc.errors import NotFound
from ajc.headers import Headers, parse_headers
from ajc.instant import Instant
from ajc.stored_message import StoredMessage, last_message
from ajc.task import Task
from ajc.work_item import WorkItem

SECONDS = 25.0
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class Event(msgspec.Struct):
    """One event of a task, as it was published."""

    type: str
    task_id: str
    state: str
    tries: int
    queue: str = ""
    task_type: str = ""
    last_error: str = ""


class Schedule(msgspec.Struct):
    """A waiting item: when it comes, and what it says."""

    at: Instant
    item: WorkItem


class World:
    """One connection to a bridge's server."""

    def __init__(self, connection: Connection, bridge: BridgeProcess | None) -> None:
        self.connection = connection
        self._bridge = bridge
        self._events: dict[str, list[Event]] = {}
        self.seen: list[str] = []

    @property
    def bridge(self) -> BridgeProcess:
        assert self._bridge is not None
        return self._bridge

    async def watch(self) -> None:
        await self.connection.subscribe(subjects.TASK_EVENTS, self._event)
        await self.connection.flush()

    def _event(self, message: Message) -> None:
        event = msgspec.json.decode(message.body, type=Event)
        self._events.setdefault(message.subject.rpartition(".")[2], []).append(event)

    # --- writing ----------------------------------------------------------------------------------------------------

    def task(self, type_: str, **fields: Any) -> Task:
        """A new task; `fields` may be any of its fields."""
        wanted = {"queue": "MAIN", "max_tries": 10} | fields
        task = Task.create(
            type_,
            wanted.pop("payload", {"n": 1}),
            id=wanted.pop("id", None),
            queue=wanted.pop("queue"),
            deadline=wanted.pop("deadline", None),
            max_tries=wanted.pop("max_tries"),
            created=wanted.pop("created", Instant.now()),
        )
        return task.replace(**wanted) if wanted else task

    async def enqueue(self, task: Task, queue: str | None = None) -> Task:
        """Store the task and its item."""
        await self.save(task.id, task.encode())
        await self.put_item(queue or task.queue, task.id)
        return task

    async def enqueue_all(self, tasks: Sequence[Task]) -> None:
        """Store many tasks and their items, each kind in one go."""
        for writes in (
            [(f"CHORIA_AJ.T.{task.id}", task.encode()) for task in tasks],
            [(f"CHORIA_AJ.Q.{task.queue}.{task.id}", WorkItem(task_id=task.id).encode()) for task in tasks],
        ):
            answers = [self.connection.ask(subject, body, timeout=30) for subject, body in writes]
            for (subject, _), answer in zip(writes, await asyncio.gather(*answers), strict=True):
                read_pub_ack(answer, subject)

    async def run(self, type_: str, **fields: Any) -> Task:
        """Store a new task of this type and its item."""
        return await self.enqueue(self.task(type_, **fields))

    async def save(self, task_id: str, data: bytes, revision: int | None = 0) -> int:
        """Store a record; `revision` None: whatever is there."""
        headers = None
        if revision is not None:
            headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n\r\n" % revision
        return (await self.connection.stored(f"CHORIA_AJ.T.{task_id}", data, headers=headers)).seq

    async def put_item(self, queue: str, task_id: str, body: bytes | None = None, headers: bytes | None = None) -> int:
        """Store an item under this id; the body names the same id unless given."""
        item = WorkItem(task_id=task_id).encode() if body is None else body
        return (await self.connection.stored(f"CHORIA_AJ.Q.{queue}.{task_id}", item, headers=headers)).seq

    async def serve(
        self, type_: str, script: Script | Sequence[Reply | None], *, prefix: str = "ajc.exec", group: str = "ajc"
    ) -> Responder:
        """Answer requests of this type from now on."""
        return await Responder(self.connection, script).listen(f"{prefix}.{type_}", group=group)

    async def take(self, queue: str, count: int) -> list[Message]:
        """Pull items as another worker would, and keep silent about them."""
        taken: list[Message] = []
        inbox = f"{self.connection.inbox_prefix}.take.{secrets.token_hex(4)}"
        subscription = await self.connection.subscribe(inbox, taken.append)
        body = b'{"batch": %d, "expires": 20000000000}' % count
        pull = f"$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_{queue}.WORKERS"
        self.connection.publish(pull, body, reply=inbox)
        await until(lambda: len(taken) >= count, SECONDS, lambda: f"{len(taken)} of {count} items came")
        await subscription.unsubscribe()
        return taken

    async def pull_nothing(self, queue: str) -> None:
        """Pull where nothing can come."""
        inbox = f"{self.connection.inbox_prefix}.none.{secrets.token_hex(4)}"
        pull = f"$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_{queue}.WORKERS"
        self.connection.publish(pull, b'{"batch": 1, "no_wait": true}', reply=inbox)
        await self.connection.flush()

    # --- reading ----------------------------------------------------------------------------------------------------

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        try:
            return await last_message(self.connection, stream, subject)
        except NotFound:
            return None

    async def record(self, task_id: str) -> StoredMessage:
        """The stored record: bytes, revision, headers."""
        return await last_message(self.connection, subjects.TASKS_STREAM, f"CHORIA_AJ.T.{task_id}")

    async def load(self, task_id: str) -> Task:
        return Task.decode((await self.record(task_id)).data)

    async def item(self, queue: str, task_id: str) -> StoredMessage | None:
        return await self.last(f"CHORIA_AJ_Q_{queue}", f"CHORIA_AJ.Q.{queue}.{task_id}")

    async def schedule(self, queue: str, task_id: str) -> Schedule | None:
        """The task's waiting item in the delay stream."""
        stored = await self.last(subjects.DELAY_STREAM, f"CHORIA_AJ.D.S.{queue}.{task_id}")
        if stored is None:
            return None
        assert stored.headers is not None
        headers = parse_headers(stored.headers)
        assert headers.get("Nats-Schedule-Target") == f"CHORIA_AJ.D.F.{queue}.{task_id}"
        at = headers.get("Nats-Schedule")
        assert at is not None
        return Schedule(Instant.parse(at.removeprefix("@at ")), WorkItem.decode(stored.data))

    async def letter(self, queue: str, task_id: str) -> tuple[Headers, bytes] | None:
        """The dead letter: headers and body."""
        stored = await self.last(subjects.DLQ_STREAM, f"CHORIA_AJ.DLQ.{queue}.{task_id}")
        if stored is None:
            return None
        assert stored.headers is not None
        return parse_headers(stored.headers), stored.data

    def events(self, task_id: str) -> list[Event]:
        return self._events.get(task_id, [])

    def states(self, task_id: str) -> list[str]:
        return [event.state for event in self.events(task_id)]

    async def info(self, stream: str) -> dict[str, Any]:
        return await self.connection.api(f"STREAM.INFO.{stream}")

    async def consumer(self, queue: str) -> dict[str, Any]:
        return await self.connection.api(f"CONSUMER.INFO.CHORIA_AJ_Q_{queue}.WORKERS")

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def until_state(self, task_id: str, *states: str, seconds: float = SECONDS) -> Task:
        """Wait until the stored task is in one of these states."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            task = await self.load(task_id)
            if task.state in states:
                return task
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"{task_id} is {task.state!r} ({task.last_err!r}), not {states}")
            await asyncio.sleep(0.03)

    async def until_gone(self, queue: str, task_id: str, seconds: float = SECONDS) -> None:
        """Wait until the queue holds no item of the task."""
        await self.until_async(lambda: self._no_item(queue, task_id), f"{queue} holds an item of {task_id}", seconds)

    async def _no_item(self, queue: str, task_id: str) -> bool:
        return await self.item(queue, task_id) is None

    async def settled(self, task: Task, *states: str, queue: str | None = None, seconds: float = SECONDS) -> Task:
        """Wait until the task is in one of these states and its item is gone."""
        found = await self.until_state(task.id, *states, seconds=seconds)
        await self.until_gone(queue or task.queue, task.id, seconds)
        return found

    async def until_schedule(self, queue: str, task_id: str, seconds: float = SECONDS) -> Schedule:
        """Wait until an item waits in the delay stream, and the queue holds none."""
        found = await self.until_async(lambda: self.schedule(queue, task_id), f"{task_id} has no schedule", seconds)
        assert isinstance(found, Schedule)
        return found

    async def until_letter(self, queue: str, task_id: str, seconds: float = SECONDS) -> tuple[Headers, bytes]:
        """Wait for the dead letter."""
        found = await self.until_async(lambda: self.letter(queue, task_id), f"{task_id} has no dead letter", seconds)
        assert isinstance(found, tuple)
        return found

    async def until_waits(self, queue: str, task_id: str, waits: int, seconds: float = SECONDS) -> Schedule:
        """Wait for the task's schedule to have been put back so often in a row."""

        async def found() -> Schedule | None:
            schedule = await self.schedule(queue, task_id)
            return schedule if schedule is not None and schedule.item.waits >= waits else None

        schedule = await self.until_async(found, f"{task_id} was not put back {waits} times", seconds)
        assert isinstance(schedule, Schedule)
        return schedule

    async def until_events(self, task_id: str, states: list[str], seconds: float = SECONDS) -> None:
        """Wait for exactly these states in the task's events."""
        await until(lambda: self.states(task_id) == states, seconds, lambda: f"{self.states(task_id)}, not {states}")

    async def until_metric(self, sample: str, least: float, seconds: float = SECONDS, **labels: str) -> None:
        """Wait for a counter to reach a value, or for a gauge to be 0."""

        def reached() -> bool:
            value = self.bridge.metric(sample, **labels)
            return value == 0 if least == 0 else value >= least

        await until(reached, seconds, lambda: f"{sample} {labels} is {self.bridge.metric(sample, **labels)}")

    async def until_async(self, condition: Any, text: str, seconds: float = SECONDS) -> Any:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            value = await condition()
            if value:
                return value
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {text}")
            await asyncio.sleep(0.03)

    async def until_requests(self, responder: Responder, task_ids: Sequence[str], seconds: float = SECONDS) -> None:
        """Wait until the responder was asked for each of these tasks."""
        await until(
            lambda: set(task_ids) <= {request.header("AJ-Task-Id") for request in responder.requests},
            seconds,
            "not asked for every task",
        )

    async def asked(self, responder: Responder, count: int = 1, seconds: float = SECONDS) -> None:
        """Wait until the responder was asked so often."""
        await until(lambda: len(responder.requests) >= count, seconds, lambda: f"{len(responder.requests)} requests")


@contextlib.asynccontextmanager
async def world_of(url: str, bridge: BridgeProcess | None = None) -> AsyncIterator[World]:
    """A connection of the test's own to this server."""
    connection = await Connection.open(ConnectOptions(servers=(url,)), name="test")
    world = World(connection, bridge)
    try:
        await world.watch()
        yield world
    finally:
        await connection.close()


def new_id() -> str:
    """A fresh task id."""
    return ksuid.new()
