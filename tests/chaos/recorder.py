"""Collects a history: a tap while the run goes on, then the stores and the responders' logs when it is quiet."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from chaos.history import Cancel, Event, Fault, History, Letter, Note, Plan, Reply, Request, Revision, task_of

T = TypeVar("T")
LONG_DUE = 5.0
TAPPED = ("CHORIA_AJ.E.task_state.*", "CHORIA_AJ.Q.>", "CHORIA_AJ.D.>", "CHORIA_AJ.DLQ.>")


async def connect(urls: list[str]) -> Client:
    """A plain nats-py client that comes back whenever a server does."""
    return await nats.connect(urls, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_quiet)


async def _quiet(error: Exception) -> None:
    """Faults of the connection are what a chaos run is about."""


class Recorder:
    """One run's collector. Plans, acknowledgements and faults are put in by the driver as they happen."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.plans: dict[str, Plan] = {}
        self.acknowledged: set[str] = set()
        self.faults: list[Fault] = []
        self.cancels: list[Cancel] = []
        self.events: list[Event] = []
        self.notes: list[Note] = []

    async def start(self) -> None:
        for subject in TAPPED:
            await self.client.subscribe(subject, cb=self._on_tap)
        await self.client.flush()

    def fault(self, kind: str, target: str, name: str) -> None:
        self.faults.append(Fault(time.time_ns(), kind, target, name))

    def cancelled(self, task: str, said: str) -> None:
        self.cancels.append(Cancel(task, time.time_ns(), said))

    async def _on_tap(self, message: Msg) -> None:
        at, task = time.time_ns(), task_of(message.subject)
        if message.subject.startswith("CHORIA_AJ.E."):
            event = json.loads(message.data)
            self.events.append(Event(task, at, event["state"], event.get("tries", 0)))
        else:
            self.notes.append(Note(task, at, f"{message.subject} {message.headers or ''} {message.data[:200]!r}"))

    async def collect(self, queues: list[str], logs: list[Path]) -> History:
        """Read the stores and the logs, and give everything as one value."""
        requests, replies = read_logs(logs)
        revisions = [
            Revision(task_of(subject), sequence, at, data)
            for subject, sequence, at, _, data in await stored(self.client, "CHORIA_AJ_TASKS")
        ]
        letters = [
            Letter(subject, at, headers, data)
            for subject, _, at, headers, data in await stored(self.client, "CHORIA_AJ_DLQ")
        ]
        left = await surely(lambda: waiting(self.client, queues))
        return History(
            plans=tuple(self.plans.values()),
            acknowledged=frozenset(self.acknowledged),
            revisions=tuple(revisions),
            letters=tuple(letters),
            items=left.items,
            schedules=left.schedules,
            leftovers=left.leftovers,
            requests=requests,
            replies=replies,
            cancels=tuple(self.cancels),
            events=tuple(self.events),
            faults=tuple(self.faults),
            notes=tuple(self.notes),
        )


def read_logs(logs: list[Path]) -> tuple[tuple[Request, ...], tuple[Reply, ...]]:
    """What the responders wrote down."""
    requests, replies = [], []
    for log in logs:
        if not log.exists():
            continue
        for line in log.read_text().splitlines():
            entry: dict[str, Any] = json.loads(line)
            kind = entry.pop("what")
            if kind == "request":
                requests.append(Request(**entry))
            else:
                replies.append(Reply(**entry))
    return tuple(requests), tuple(replies)


Stored = tuple[str, int, int, dict[str, str], bytes]


async def stored(client: Client, stream: str) -> list[Stored]:
    """Every message of a stream: subject, sequence, the server's time (ns), headers (lower case), body."""

    async def read() -> list[Stored]:
        try:
            return [message async for message in _stored(client, stream)]
        except NotFoundError:
            return []

    return await surely(read)


async def surely(read: Callable[[], Awaitable[T]]) -> T:
    """Read again where a cluster has just lost a member: what is asked may be gone with it, or nobody leads it yet."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await read()
        except (nats.errors.Error, KeyError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def _stored(client: Client, stream: str) -> AsyncIterator[Stored]:
    js = client.jetstream(timeout=10)
    total = (await js.stream_info(stream)).state.messages
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, inactive_threshold=60)
    puller = await js.pull_subscribe("", durable=None, stream=stream, config=config)
    seen = 0
    while seen < total:
        for message in await puller.fetch(min(500, total - seen), timeout=10):
            seen += 1
            meta = message.metadata
            headers = {name.lower(): value for name, value in (message.headers or {}).items()}
            words = message.reply.split(".")  # ... stream sequence, consumer sequence, time, pending
            yield message.subject, meta.sequence.stream, int(words[-2]), headers, message.data
    await puller.unsubscribe()


class Waiting(NamedTuple):
    """Subjects of what is stored in queues and in the delay stream."""

    items: tuple[str, ...]
    schedules: tuple[str, ...]
    leftovers: tuple[str, ...]

    @property
    def none(self) -> bool:
        return not self.items and not self.schedules


async def waiting(client: Client, queues: list[str]) -> Waiting:
    """What is yet to be delivered, and what the server brought back.

    nats-server 2.15.1, killed, brings deleted messages back: an item below the acknowledgement floor of its consumer, a
    delayed item below that of the queue's sourcing consumer, a schedule that was replaced by another one and is long
    due. None of these is ever delivered again; were a task left waiting for one, it would not end, and that is a rule
    of its own.
    """
    items: list[str] = []
    schedules: list[str] = []
    leftovers: list[str] = []
    for queue in queues:
        stream = f"CHORIA_AJ_Q_{queue}"
        info = await ask(client, f"CONSUMER.INFO.{stream}.WORKERS")
        pending = info["num_pending"] + info["num_ack_pending"]
        for subject, message in (await messages(client, stream)).items():
            old = not pending and message["seq"] <= info["ack_floor"]["stream_seq"]
            (leftovers if old else items).append(subject)
    floors: dict[str, int] = {}
    for consumer in (await ask(client, "CONSUMER.LIST.CHORIA_AJ_DELAY", b"{}")).get("consumers") or []:
        floors[consumer["config"].get("filter_subject", "").rpartition(".")[0]] = consumer["ack_floor"]["stream_seq"]
    for subject, message in (await messages(client, "CHORIA_AJ_DELAY")).items():
        old = message["seq"] <= floors.get(subject.rpartition(".")[0], 0) or _long_due(message)
        (leftovers if old else schedules).append(subject)
    return Waiting(tuple(items), tuple(schedules), tuple(leftovers))


def _long_due(message: dict[str, Any]) -> bool:
    """A schedule fires within a quarter of a second: one that is due for this long does not."""
    at = re.search(rb"Nats-Schedule: @at (\d+-\d+-\d+T\d+:\d+:\d+)", base64.b64decode(message.get("hdrs", "")))
    if at is None:
        return False
    due = datetime.fromisoformat(at[1].decode()).replace(tzinfo=UTC)
    return (datetime.now(UTC) - due).total_seconds() > LONG_DUE


async def messages(client: Client, stream: str) -> dict[str, dict[str, Any]]:
    """The last message of each subject that a stream holds, as STREAM.MSG.GET gives it."""
    found: dict[str, dict[str, Any]] = {}
    state = (await ask(client, f"STREAM.INFO.{stream}", b'{"subjects_filter":">"}')).get("state", {})
    for subject in sorted(state.get("subjects") or {}):
        query = json.dumps({"last_by_subj": subject}).encode()
        message = (await ask(client, f"STREAM.MSG.GET.{stream}", query)).get("message")
        if message is not None:  # else it went meanwhile
            found[subject] = message
    return found


async def ask(client: Client, subject: str, body: bytes = b"") -> dict[str, Any]:
    """One request to JetStream's API; an error is part of the answer."""
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{subject}", body, timeout=10)).data)
    return answer


async def make_stores(client: Client, replicas: int = 1) -> None:
    """The task store with every revision kept: the record of what the server accepted.

    A cluster that has just started has nobody yet who would make a stream.
    """
    config = {
        "name": "CHORIA_AJ_TASKS",
        "subjects": ["CHORIA_AJ.T.*"],
        "retention": "limits",
        "max_msgs_per_subject": -1,
        "storage": "file",
        "num_replicas": replicas,
        "allow_direct": True,
    }
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = await ask(client, "STREAM.CREATE.CHORIA_AJ_TASKS", json.dumps(config).encode())
        except nats.errors.Error as error:
            answer = {"error": repr(error)}
        if "error" not in answer:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(str(answer["error"]))
        await asyncio.sleep(0.2)


async def quiet(client: Client, queues: list[str], seconds: float) -> bool:
    """Wait until no item and no schedule is left, seen twice in a row; False when that takes too long."""
    deadline = time.monotonic() + seconds
    calm = 0
    while time.monotonic() < deadline:
        try:
            none = (await waiting(client, queues)).none
        except (nats.errors.Error, KeyError):
            none = False  # the server, or a stream, is not there yet
        calm = calm + 1 if none else 0
        if calm == 2:
            return True
        await asyncio.sleep(0.3)
    return False
