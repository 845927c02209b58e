"""`enqueue_many` beside a bare client that pipelines the same two publishes, taking turns on fresh queues."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import stage
from measure import HERE, Bench
from report import Row

WHAT = "enqueue_many, of the bare client"
IN_FLIGHT = 256


async def rows(bench: Bench, rounds: int, tasks: int, say: Callable[[str], None]) -> list[Row]:
    ratios: list[float] = []
    for number in range(rounds):
        floor = await once(
            bench, "enqueue_floor.py", lambda queue: (str(bench.server.port), queue, str(tasks), str(IN_FLIGHT))
        )
        sdk = await once(bench, "enqueue_sdk.py", lambda queue: (bench.server.url, queue, str(tasks)))
        ratios.append(floor["seconds"] / floor["tasks"] / (sdk["seconds"] / sdk["tasks"]))
        say(f"round {number + 1} enqueue   floor {rate(floor)}, enqueue_many {rate(sdk)}")
    return [Row.at_least(WHAT, 0.6, statistics.median(ratios))]


def rate(result: dict[str, Any]) -> str:
    per_task = result["cpu"] / result["tasks"] * 1e6
    return f"{result['tasks'] / result['seconds']:.0f} tasks/s at {per_task:.1f} us CPU"


async def once(bench: Bench, program: str, arguments: Callable[[str], tuple[str, ...]]) -> dict[str, Any]:
    """Run one producer on a queue of its own; what it printed, after the store was found to hold as many."""
    (queue,) = await bench.new_queues()
    command = [sys.executable, str(HERE / program), *arguments(queue)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr.decode()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    stored = (await bench.client.api(f"STREAM.INFO.CHORIA_AJ_Q_{queue}"))["state"]["messages"]
    if stored != result["tasks"]:
        raise RuntimeError(f"{program}: {stored} items stored of {result['tasks']}")
    await stage.remove(bench.client, [queue])
    return result
