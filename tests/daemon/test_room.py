"""A burst beyond the responders' concurrency, on a real server: they stay at work, and no refusal uses up a try."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from bridge_process import BridgeProcess, until
from outside import world_of
from scripted_responder import Reply, Request, busy, done

import ajc
from ajc_bridge.pipeline.room import SEARCH_PER_SECOND, SEARCH_REQUESTS

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_burst_beyond_a_responders_concurrency(own_server, tmp_path: Path) -> None:
    count, concurrency, seconds = 200, 10, 0.1
    app = ajc.Responder(own_server.url)

    @app.handler("burst", concurrency=concurrency)
    async def handle(attempt: ajc.Attempt) -> int:
        await asyncio.sleep(seconds)
        return attempt.try_number

    bridge = BridgeProcess(tmp_path, own_server.url, '[queues.BURST]\nlease = "5s"')
    bridge.start()
    serving = asyncio.create_task(app.serve())
    try:
        async with asyncio.timeout(60):
            async with ajc.connect(own_server.url) as client:
                await client.ensure_queue(ajc.Queue("BURST"))
                began = time.monotonic()
                tasks = [ajc.new_task("burst", queue="BURST") for _ in range(count)]
                ids = [task.id async for task in client.enqueue_many(tasks)]
                done = await asyncio.gather(*(client.result(task, timeout=40) for task in ids))
                # ideal: 2 s. Parked by doubling waits alone it takes more than a minute
                assert time.monotonic() - began < 30
                assert {task.tries for task in done} == {1}
    finally:
        app.stop()
        await serving
        bridge.stop()


@pytest.mark.parametrize("held", [False, True], ids=["answers-at-once", "keeps-what-it-takes"])
@pytest.mark.rule("EXEC-39")
async def test_the_tenth_responder_gets_the_work_when_nine_are_full(own_server, make_bridge, kind, held) -> None:
    """EXEC-39: a queue group chooses by chance, so that the only free one of ten is found by asking on."""
    count = 100
    refused: dict[str, list[float]] = {}
    took: dict[str, float] = {}
    requests: list[Request] = []

    def full(request: Request) -> Reply:
        refused.setdefault(request.task.id, []).append(request.at)
        return busy("full")

    def take(request: Request) -> Reply | None:
        took[request.task.id] = request.at
        requests.append(request)
        return None if held else done()

    bridge = await make_bridge(own_server.url, "[queues.Q]\nmax_concurrent = -1", level="info").ready()
    async with world_of(own_server.url, bridge) as world:
        for _ in range(9):
            await world.serve(kind, full)
        tenth = await world.serve(kind, take)
        for _ in range(count):
            task = await world.run(kind, queue="Q")
            await until(lambda task=task: task.id in took, say="the tenth was never asked")
        for request in requests if held else ():
            tenth.send(request, done())
        for task_id in took:
            assert (await world.settled(await world.load(task_id), "complete")).tries == 1
    waited = sorted(took[one] - min(refused.get(one, [took[one]])) for one in took)
    median, late = waited[count // 2], waited[int(count * 0.95)]
    said = f"median {median * 1000:.1f} ms, 95 of 100 within {late * 1000:.1f} ms"
    print(f"{said}, {sum(map(len, refused.values())) / count:.1f} refusals a task")
    assert median < 0.05, said
    assert late < 0.5, said


async def test_all_full_is_no_storm(own_server, make_bridge, kind) -> None:
    """Whoever waits for room, a type's searches have one budget; each attempt has three requests beside it."""
    tasks, seconds = 100, 3.0
    requests: list[Request] = []

    def full(request: Request) -> Reply:
        requests.append(request)
        return busy("full")

    bridge = await make_bridge(own_server.url, "[queues.Q]\nmax_concurrent = -1", level="info").ready()
    async with world_of(own_server.url, bridge) as world:
        for _ in range(10):
            await world.serve(kind, full)
        began = time.monotonic()
        await world.enqueue_all([world.task(kind, queue="Q") for _ in range(tasks)])
        await asyncio.sleep(seconds)  # what is counted is how much comes in a time
        passed = time.monotonic() - began
        attempts = sum(request.header("AJ-Try") == "1" for request in requests)
        assert attempts == len(requests), "no refusal uses up a try"
        # each task is begun at once, and again after 1 s to 2 s, 1 s to 3 s …: at most one attempt for each second
        assert len(requests) <= 3 * tasks * (1 + passed) + SEARCH_REQUESTS + SEARCH_PER_SECOND * passed
        assert len(requests) >= 3 * tasks
