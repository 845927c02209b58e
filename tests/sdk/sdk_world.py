"""What the SDK's tests look at: the server's own words, and steps that a bridge would take."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ajc
from ajc.connection import Connection
from ajc.context import resolve
from ajc.entry import announce
from ajc.exchange import ExecReply, ExecRequest, read_reply
from ajc.instant import Instant
from ajc.stored_message import StoredMessage, last_message
from ajc.subjects import item_subject, queue_stream, task_subject
from ajc.task_records import read_task, save_task

VECTORS = Path(__file__).parent.parent / "vectors"


def vectors(name: str) -> Any:
    text = (VECTORS / name).read_text()
    return [json.loads(line) for line in text.splitlines()[1:]] if name.endswith("l") else json.loads(text)["cases"]


def unique(prefix: str = "Q") -> str:
    return f"{prefix}_{secrets.token_hex(6)}"


@asynccontextmanager
async def queue_of(server: Any, **settings: Any) -> AsyncIterator[tuple[ajc.Client, str]]:
    """A client, and a queue of this test's own."""
    name = unique()
    async with ajc.connect(server.url) as client:
        await client.ensure_queue(ajc.Queue(name, **settings))
        yield client, name


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[Connection]:
    connection = await Connection.open(resolve(server.url))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def serving(server: Any, app: ajc.Responder) -> AsyncIterator[Connection]:
    """The responder on its loop, and a connection that asks it."""
    started = asyncio.Event()
    running = asyncio.create_task(app.serve(started=started.set))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        waiting.cancel()
        await running
    try:
        async with connected(server) as connection:
            yield connection
    finally:
        app.stop()
        await running


@asynccontextmanager
async def ending(server: Any, app: ajc.Responder) -> AsyncIterator[tuple[Connection, str]]:
    """A responder that was told to stop while it runs one attempt, and the attempt's type; at last it may finish."""
    kind = unique("t")
    let_go = asyncio.Event()

    @app.handler(kind)
    async def handle(_attempt: ajc.Attempt) -> str:
        await let_go.wait()
        return "finished"

    async with connected(server) as connection:
        started = asyncio.Event()
        running = asyncio.create_task(app.serve(started=started.set))
        await started.wait()
        held = asyncio.create_task(ask(connection, kind))
        await until(lambda: app.handlers[kind].running == 1)
        app.stop()
        yield connection, kind
        assert not running.done()
        let_go.set()
        assert (await held).body == b'"finished"'
        await running


async def item_of(client: ajc.Client, queue: str, task_id: str) -> StoredMessage | None:
    try:
        return await last_message(client.connection, queue_stream(queue), item_subject(queue, task_id))
    except ajc.NotFound:
        return None


async def record_of(client: ajc.Client, task_id: str) -> StoredMessage:
    return await last_message(client.connection, "CHORIA_AJ_TASKS", task_subject(task_id))


async def change(client: ajc.Client, task_id: str, **changes: Any) -> ajc.Task:
    """Save a task as somebody else would, and tell of it."""
    record = await read_task(client.connection, task_id)
    task = record.task.replace(**changes)
    await save_task(client.connection, task, record.revision)
    announce(client.connection, task)
    return task


def exec_request(kind: str, payload: Any = None, *, timeout_ms: int = 10_000, **changes: Any) -> ExecRequest:
    now = Instant.now()
    task = ajc.Task.create(kind, payload, queue="Q").replace(state="active", tries=1, tried=now)
    request: dict[str, Any] = {
        "task_id": task.id,
        "type": kind,
        "queue": "Q",
        "try_number": 1,
        "max_tries": 3,
        "deadline": now.plus(timeout_ms * 1_000_000),
        "timeout_ms": timeout_ms,
        "body": task.encode(),
    }
    return ExecRequest(**(request | changes))


async def ask(
    connection: Connection,
    kind: str,
    payload: Any = None,
    *,
    wait: float = 10.0,
    prefix: str = "ajc.exec",
    **changes: Any,
) -> ExecReply:
    """Request an attempt as the bridge does, and read the reply."""
    request = exec_request(kind, payload, **changes)
    message = await connection.request(f"{prefix}.{kind}", request.body, headers=request.headers(), timeout=wait)
    return read_reply(message.headers, message.body)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")
