"""The process is killed at each step of a cancel; the same cancel again leaves one end, and nothing under way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sdk_world import item_of, queue_of, record_of, unique, until

from ajc.connection import Message
from ajc.failpoint import POINTS
from ajc.task import Task

PROGRAM = Path(__file__).parent / "cancel_program.py"
STEPS = [point for point in POINTS if point.startswith("cancel.") and point != "cancel.found"]  # the bridge's
UNSAVED = ("cancel.begin",)
UNSURE = ("cancel.save_sent",)


async def run(url: str, task_id: str, failpoint: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        url,
        task_id,
        stdout=subprocess.PIPE,
        env={**os.environ, "AJC_FAILPOINT": failpoint},
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().strip()


@pytest.mark.parametrize("point", STEPS)
async def test_a_cancel_that_was_killed_is_done_once_by_its_repetition(server: Any, point: str) -> None:
    task_id = unique()
    async with queue_of(server) as (client, queue):
        heard: list[Message] = []
        await client.connection.subscribe(f"ajc.cancel.{task_id}", heard.append)
        before = await client.enqueue("a", {"n": 1}, queue=queue, id=task_id)
        first = (await record_of(client, task_id)).revision
        code, _ = await run(server.url, task_id, point)
        assert code == -signal.SIGKILL, "the fail point was not reached"
        between = Task.decode((await record_of(client, task_id)).data)
        if point not in UNSURE:
            assert (between == before) == (point in UNSAVED)  # one of the two, never anything else
        code, said = await run(server.url, task_id)
        assert (code, said) == (0, "terminated")
        record = await record_of(client, task_id)
        found = Task.decode(record.data)
        assert found == before.replace(state="terminated", last_err="cancelled: mistake", cancelled=found.cancelled)
        assert record.revision > first
        if point not in (*UNSAVED, *UNSURE):
            assert found == between  # saved once
        assert await item_of(client, queue, task_id) is None
        await until(lambda: heard)
        assert {message.body for message in heard} == {b"mistake"}
