"""Dispatch when idle: from the item's publish to the request at the responder, one task at a time with gaps between."""

from __future__ import annotations

import asyncio
import random
import time

import stage
from measure import Bench


async def dispatch_times(bench: Bench, samples: int) -> list[float]:
    """Milliseconds per sample, sorted.

    The clock starts just before the item leaves the producer (its record is stored already) and stops at the instant
    that the responder's CLOCK_MONOTONIC gives, which all processes of this machine share: the way to the store counts
    against the bridge.
    """
    queues = await bench.new_queues()
    await stage.release(bench.client, queues)
    arrivals: asyncio.Queue[int] = asyncio.Queue()
    bench.client.subscribe(b"bench.stamp", lambda _s, _r, _h, body: arrivals.put_nowait(int(body)))
    bridge = bench.start_bridge(queues)
    took: list[float] = []
    try:
        await stage.wait_for_pulls(bench.client, queues, bridge)
        await stage.wait_until_empty(bench.client, queues, 20)
        bench.client.publish(b"bench.stamp.on", b"")
        await bench.client.flush()
        for sample in range(-10, samples):  # the first ten warm up
            await asyncio.sleep(random.uniform(0.005, 0.025))
            began = await store_one(bench, queues[0])
            async with asyncio.timeout(10):
                arrived = await arrivals.get()
            if sample >= 0:
                took.append((arrived - began) / 1e6)
        await stage.wait_until_empty(bench.client, queues, 20)
    finally:
        bench.client.publish(b"bench.stamp.off", b"")
        bench.stop(bridge)
    await stage.remove(bench.client, queues)
    return sorted(took)


async def store_one(bench: Bench, queue: str) -> int:
    """Store a task, then its item; the CLOCK_MONOTONIC nanoseconds at which the item left."""
    (task_id,) = stage.task_ids(1)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = stage.new_task(task_id, queue, created, stage.payload_of(200))
    await bench.client.ask(f"CHORIA_AJ.T.{task_id}".encode(), body)
    item = f'{{"kind":0,"job":"{task_id}"}}'.encode()
    headers = f"NATS/1.0\r\nNats-Msg-Id: {task_id}\r\n\r\n".encode()
    began = time.monotonic_ns()
    bench.client.ask(f"CHORIA_AJ.Q.{queue}.{task_id}".encode(), item, headers)
    return began


def percentile(ordered: list[float], share: float) -> float:
    """The nearest rank: the smallest value that `share` of all are not above."""
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]
