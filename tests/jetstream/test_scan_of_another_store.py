"""The scan for tasks without an item, over a store that was made again or has lost its last writes."""

from __future__ import annotations

from typing import Any

import pytest

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import Unavailable
from ajc.subjects import TASKS_STREAM
from ajc.task import Task
from ajc.task_records import delete_revision, save_task
from ajc.topology import ensure_stores
from ajc_bridge.jetstream.census import JetStreamRecordScan


async def test_a_store_that_begins_again_is_read_from_its_beginning(own_server: Any) -> None:
    connection = await Connection.open(ConnectOptions(servers=(own_server.url,)))
    try:
        await ensure_stores(connection)
        before = [Task.create("a:b", queue="Q") for _ in range(3)]
        revisions = [await save_task(connection, task, 0) for task in before]
        scan = JetStreamRecordScan(connection)
        assert [record.task_id for record in await scan.next(10)] == [task.id for task in before]
        await delete_revision(connection, before[2].id, revisions[2])
        assert await scan.next(10) == []  # what is removed is no reason to read all of it again
        await connection.api(f"STREAM.DELETE.{TASKS_STREAM}")
        with pytest.raises(Unavailable):
            await scan.next(10)
        await ensure_stores(connection)
        task = Task.create("a:b", queue="Q")
        await save_task(connection, task, 0)
        assert [record.task_id for record in await scan.next(10)] == [task.id]
        assert await scan.next(10) == []
    finally:
        await connection.close()
