"""The measurements of `ajc-bridge bench`. As a program, `python -m ajc_bridge.cli.measuring SUBJECT`, its responder."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec

from ajc.client import Client
from ajc.connection import Connection, Message, PubAck, read_pub_ack
from ajc.context import resolve
from ajc.events import TaskStateChanged
from ajc.exchange import ExecRequest
from ajc.instant import Instant
from ajc.making_tasks import new_task
from ajc.queue import Queue
from ajc.result import Result
from ajc.subjects import (
    CONSUMER,
    EXEC_PREFIX,
    RESPONDER_GROUP,
    TASKS_STREAM,
    event_subject,
    exec_subject,
    queue_stream,
    task_subject,
)
from ajc.task import Task
from ajc.topology import purge_subject
from ajc_bridge.cli.children import Child, bridge
from ajc_bridge.cli.exits import CliError

RUN_SECONDS: Final = 60
STALL_SECONDS: Final = 20.0
PURGES_AT_ONCE: Final = 64
READY: Final = "ready"


class Figures(msgspec.Struct, frozen=True):
    """What was measured."""

    tasks: int
    concurrency: int
    payload_bytes: int
    enqueued_per_second: float
    floor_per_second: float
    bridge_per_second: float
    ratio: float


async def measure(
    client: Client, server: str | None, context: str | None, *, tasks: int, concurrency: int, size: int
) -> Figures:
    """Measure the floor, then a bridge, each on a queue of its own. Everything made for it is removed again."""
    where = [*(["--server", server] if server else []), *(["--context", context] if context else [])]
    token = secrets.token_hex(4)
    task_type = f"bench-{token}"
    with contextlib.ExitStack() as children:
        children.callback(_started([sys.executable, "-m", __name__, task_type, server or "", context or ""]).kill)
        async with _filled(client, f"BENCH_{token}_F", task_type, tasks, concurrency, size) as (queue, enqueued):
            floor = await _floor(client.connection, queue, task_type, tasks, concurrency)
        async with _filled(client, f"BENCH_{token}_B", task_type, tasks, concurrency, size) as (queue, _):
            through = await _through_bridge(client.connection, queue, where, tasks, concurrency)
    return Figures(tasks, concurrency, size, enqueued, floor, through, through / floor)


def _started(command: list[str]) -> Child:
    """Start the responder, and return once it serves."""
    import subprocess  # noqa: PLC0415 - for one constant

    child = Child(command, stdout=subprocess.PIPE, text=True)
    if child.first_line() != READY:
        child.kill()
        raise CliError("the responder of the measurement did not start")
    return child


@contextlib.asynccontextmanager
async def _filled(
    client: Client, queue: str, task_type: str, tasks: int, concurrency: int, size: int
) -> AsyncIterator[tuple[str, float]]:
    """Make a queue with that many tasks in it; yield its name and how many were enqueued a second."""
    await client.ensure_queue(Queue(queue, max_run_time=RUN_SECONDS, max_concurrent=2 * concurrency))
    ids: list[str] = []
    payload = b"x" * size
    try:
        began = time.perf_counter()
        made = (new_task(task_type, payload) for _ in range(tasks))
        ids.extend([task.id async for task in client.enqueue_many(made, queue=queue)])
        yield queue, tasks / (time.perf_counter() - began)
    finally:
        await client.delete_queue(queue)
        limit = asyncio.Semaphore(PURGES_AT_ONCE)

        async def forget(task_id: str) -> None:
            async with limit:
                await purge_subject(client.connection, TASKS_STREAM, task_subject(task_id))

        await asyncio.gather(*map(forget, ids))


async def _through_bridge(connection: Connection, queue: str, where: list[str], tasks: int, concurrency: int) -> float:
    """Let a bridge serve the queue; return its tasks a second, from its first save to its last."""
    seen = _Progress(tasks)
    needle = f'"queue":"{queue}"'.encode()

    def event(message: Message) -> None:
        if needle in message.body:
            seen.note(done=b'"state":"complete"' in message.body)

    subscription = await connection.subscribe(event_subject("ID").replace(".ID", ".*"), event)
    await connection.flush()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as children:
        settings = Path(folder) / "bench.toml"
        settings.write_text(
            f'[queues.{queue}]\n[bridge]\nconcurrency = {concurrency}\n[http]\nlisten = "off"\n[log]\nlevel = "warn"\n'
        )
        children.callback(bridge(["--config", str(settings), *where]).kill)
        await seen.done()
    await subscription.unsubscribe()
    return tasks / seen.seconds


class _Progress:
    """Counts tasks; the clock runs from the first thing that happens to the last task's end."""

    def __init__(self, tasks: int) -> None:
        self._left = tasks
        self._began = 0.0
        self._changed = asyncio.Event()
        self.seconds = 0.0

    def note(self, *, done: bool) -> None:
        """Something happened; perhaps a task's end."""
        self._began = self._began or time.perf_counter()
        self._left -= done
        if self._left == 0 and done:
            self.seconds = time.perf_counter() - self._began
        self._changed.set()

    async def done(self) -> None:
        """Wait until all are done. Raises `CliError` when nothing happens for a while."""
        while self._left:
            self._changed.clear()
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                raise CliError(f"nothing happened for {STALL_SECONDS:g} s, with {self._left} tasks left") from None


async def _floor(connection: Connection, queue: str, task_type: str, tasks: int, concurrency: int) -> float:
    """Send a bridge's messages for every task, `concurrency` at once; return tasks a second."""
    arrived: asyncio.Queue[Message] = asyncio.Queue()
    inbox = f"{connection.inbox_prefix}.floor.{secrets.token_hex(4)}"
    subscription = await connection.subscribe(inbox, arrived.put_nowait)
    seen = _Progress(tasks)
    seen.note(done=False)
    pull = connection.api_subject(f"CONSUMER.MSG.NEXT.{queue_stream(queue)}.{CONSUMER}")
    subject = exec_subject(EXEC_PREFIX, task_type)

    async def work() -> None:
        while True:
            item = await arrived.get()
            await _one(connection, queue, subject, item)
            seen.note(done=True)

    workers = [asyncio.ensure_future(work()) for _ in range(concurrency)]
    try:
        batch = msgspec.json.encode({"batch": tasks, "expires": RUN_SECONDS * 1_000_000_000})
        connection.publish(pull, batch, reply=inbox)
        done = asyncio.ensure_future(seen.done())
        await asyncio.wait({done, *workers}, return_when=asyncio.FIRST_COMPLETED)
        for one in (done, *workers):
            if one.done():
                one.result()  # raises what made it end
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    await subscription.unsubscribe()
    return tasks / seen.seconds


async def _one(connection: Connection, queue: str, subject: str, item: Message) -> None:
    task_id = item.subject.rsplit(".", 1)[1]
    found = await connection.request(connection.api_subject(f"DIRECT.GET.{TASKS_STREAM}.{task_subject(task_id)}"))
    now = Instant.now()
    active = Task.decode(found.body).replace(state="active", tries=1, tried=now)
    ack = await _save(connection, active, _sequence(found.headers or b""))
    ends = now.plus(RUN_SECONDS * 1_000_000_000)
    request = ExecRequest(
        task_id=task_id,
        type=active.type,
        queue=queue,
        try_number=1,
        max_tries=active.max_tries,
        deadline=ends,
        timeout_ms=RUN_SECONDS * 1000,
        body=active.encode(),
    )
    reply = await connection.request(subject, request.body, headers=request.headers(), timeout=RUN_SECONDS)
    await _save(
        connection, active.replace(state="complete", result=Result.of_bytes(reply.body, Instant.now())), ack.seq
    )
    connection.publish(item.reply, b"+ACK")


async def _save(connection: Connection, task: Task, revision: int) -> PubAck:
    headers = f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {revision}\r\n\r\n".encode()
    subject = task_subject(task.id)
    ack = read_pub_ack(await connection.ask(subject, task.encode(), headers=headers), subject)
    connection.publish(event_subject(task.id), TaskStateChanged.of(task, Instant.now()).encode())
    return ack


def _sequence(headers: bytes) -> int:
    return int(headers.split(b"Nats-Sequence: ", 1)[1].split(b"\r\n", 1)[0])


async def respond(task_type: str, server: str | None, context: str | None, ready: Callable[[], None]) -> None:
    """Answer every request of this type at once, until the process ends."""
    connection = await Connection.open(resolve(server, context), name="ajc-bridge bench responder")

    def answer(message: Message) -> None:
        connection.publish(message.reply, b"ok")

    await connection.subscribe(exec_subject(EXEC_PREFIX, task_type), answer, queue=RESPONDER_GROUP)
    await connection.flush()
    ready()
    await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    """Run the responder: task type, server and context (both may be empty)."""
    task_type, server, context = arguments

    def ready() -> None:
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()

    asyncio.run(respond(task_type, server or None, context or None, ready))


if __name__ == "__main__":
    main(sys.argv[1:])
