"""The process is killed at each step of an enqueue; the same enqueue again leaves one task and one item."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sdk_world import item_of, queue_of, record_of, unique

from ajc.failpoint import POINTS
from ajc.task import Task

PROGRAM = Path(__file__).parent / "enqueue_program.py"
PLAIN = [point for point in POINTS if point.startswith("enqueue.")]
REFUSED = ["enqueue.refused", "enqueue.error_saved"]
MANY = ["enqueue.begin", "enqueue.saved", "enqueue.event_sent", "enqueue.item_stored"]


async def run(url: str, queue: str, task_id: str, way: str, failpoint: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        url,
        queue,
        task_id,
        way,
        stdout=subprocess.PIPE,
        env={**os.environ, "AJC_FAILPOINT": failpoint},
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().strip()


@pytest.mark.parametrize(
    ("way", "point"),
    [("plain", point) for point in PLAIN if point not in REFUSED] + [("many", point) for point in MANY],
)
async def test_an_enqueue_that_was_killed_is_done_once_by_its_repetition(server: Any, way: str, point: str) -> None:
    task_id = unique()
    async with queue_of(server) as (client, queue):
        items: list[str] = []
        await client.connection.subscribe(f"CHORIA_AJ.Q.{queue}.*", lambda message: items.append(message.subject))
        code, _ = await run(server.url, queue, task_id, way, point)
        assert code == -signal.SIGKILL, "the fail point was not reached"
        code, said = await run(server.url, queue, task_id, way)
        assert code == 0
        assert said in ("stored", "AlreadyExists")
        assert (said == "stored") == (point == "enqueue.begin")
        task = Task.decode((await record_of(client, task_id)).data)
        assert (task.state, task.tries) == ("new", 0)
        assert await item_of(client, queue, task_id)
        info = await client.queue(queue)
        assert info.messages == 1
        # what the stream accepted, not only what it holds: one item, whatever was sent
        state = (await client.connection.api(f"STREAM.INFO.CHORIA_AJ_Q_{queue}"))["state"]
        assert state["last_seq"] == 1


@pytest.mark.parametrize("point", REFUSED)
async def test_killed_while_it_is_refused(server: Any, point: str) -> None:
    task_id = unique()
    async with queue_of(server, max_entries=1) as (client, queue):
        await client.enqueue("other", queue=queue)
        code, _ = await run(server.url, queue, task_id, "plain", point)
        assert code == -signal.SIGKILL
        code, said = await run(server.url, queue, task_id, "plain")
        task = await client.load(task_id)
        assert task.state == "queue_error"
        assert said == ("QueueFull" if point == "enqueue.refused" else "AlreadyExists")
        await client.purge_queue(queue)
        assert (await client.retry(task_id)).state == "retry"
        assert await item_of(client, queue, task_id)
