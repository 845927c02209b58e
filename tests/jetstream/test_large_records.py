"""Records near the server's limit: reading many of them is no reason for the server to cut the bridge off."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.subjects import task_subject
from ajc.task import Task
from ajc.topology import ensure_stores
from ajc_bridge.jetstream.task_store import JetStreamTaskStore

MANY = 60
SIZE = 600_000


async def test_many_large_records_are_read_in_parts(make_server) -> None:
    server = make_server("max_pending: 16777216")  # a quarter of what is usual
    seen: list[str] = []
    connection = await Connection.open(
        ConnectOptions(servers=(server.url,)), on_state=lambda state, _error: seen.append(state)
    )
    await ensure_stores(connection)
    tasks = [Task.create("email:new", b"x" * SIZE, queue="Q", id=f"task{number}") for number in range(MANY)]
    for task in tasks:
        await connection.stored(task_subject(task.id), task.encode())
    store = JetStreamTaskStore(connection)
    await store.start()
    # all that one turn of the loop asks for leaves as one read
    names = [name for task in tasks for name in (task.id, f"no-{task.id}")]
    found = dict(zip(names, await asyncio.gather(*(store.load(name) for name in names)), strict=True))
    assert [found[task.id].task for task in tasks] == tasks
    assert [found[f"no-{task.id}"] for task in tasks] == [None] * MANY
    assert seen == []
    assert "Slow Consumer" not in Path(server.folder / "server.log").read_text()
    await connection.close()
