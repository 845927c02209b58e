"""A queue that producers keep full: items whose time has come get in all the same, or it is told that they do not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from bridge_process import until
from outside import World, world_of
from scripted_responder import Request, done, failed

from ajc.errors import QueueFull

row = pytest.mark.row
PRODUCERS = 20
CONFIG = """
[bridge]
create = {create}
[queues.Q]
max_entries = 5
max_concurrent = 2
backoff = "quick"
[backoff.quick]
steps = ["300ms"]
jitter = 0
"""


@contextlib.asynccontextmanager
async def kept_full(world: World, kind: str) -> AsyncIterator[list[int]]:
    """Producers that put a task into every place that becomes free; `[n]` is how many they have put."""
    made = [0]

    async def produce() -> None:
        while True:
            task = world.task(kind, queue="Q")
            await world.save(task.id, task.encode())
            while True:
                with contextlib.suppress(QueueFull):
                    await world.put_item("Q", task.id)
                    break
                await asyncio.sleep(0.001)
            made[0] += 1

    producing = [asyncio.create_task(produce()) for _ in range(PRODUCERS)]
    try:
        yield made
    finally:
        for one in producing:
            one.cancel()
        await asyncio.wait(producing)
        assert all(one.cancelled() for one in producing)


async def work_that_fails_once(world: World, kind: str, count: int) -> dict[str, list[Request]]:
    """Tasks that fail at first; the requests for each."""
    asked: dict[str, list[Request]] = {}

    def script(request: Request):
        seen = asked.setdefault(request.task.id, [])
        seen.append(request)
        return failed("at first") if len(seen) == 1 else done()

    await world.serve(f"{kind}-fails", script)
    for _ in range(count):
        asked.setdefault((await world.run(f"{kind}-fails", queue="Q")).id, [])  # it may have been asked for by now
    return asked


@row("A queue that producers keep full: items whose time has come are put into it all the same")
async def test_retries_come_back_into_a_queue_that_is_kept_full(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, CONFIG.format(create="true")).ready()
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done(after=0.05)])
        asked = await work_that_fails_once(world, kind, 5)
        await until(lambda: all(asked.values()))
        async with kept_full(world, kind) as made:
            await until(lambda: made[0] > 10)
            await world.connection.stored("CHORIA_AJ.D.F.Q.%bad", b"junk")  # an id of no task is in nobody's way
            world.connection.send("PUB CHORIA_AJ.D.F.Q.\u200b  4\r\njunk\r\n".encode())
            for task_id in asked:
                assert (await world.until_state(task_id, "complete", seconds=40)).tries == 2
            assert made[0] > 50
        assert [len(requests) for requests in asked.values()] == [2] * 5
        held_up = await bridge.log("queue.due_item_held_up", queue="Q")
        assert held_up["task_id"] in {*asked, "%bad", "\u200b"}
        assert held_up["seen_ms"] >= 1_900
        assert bridge.metric("ajc_bridge_due_items_held_up_total", queue="Q") >= 1
        assert bridge.metric("ajc_bridge_due_items_put_total", queue="Q") >= 1
        assert not bridge.logs("bridge.trouble")
        # what was taken out of the delay stream on this way leaves the ordinary one as it was
        await world.until_async(lambda: empty(world), "the queue does not run empty")
        again = await work_that_fails_once(world, f"{kind}2", 3)
        for task_id in again:
            assert (await world.until_state(task_id, "complete")).tries == 2
        assert [len(requests) for requests in again.values()] == [2] * 3


@row("A queue that producers keep full: items whose time has come are put into it all the same")
async def test_a_bridge_that_may_not_put_items_tells_of_it(own_server, make_bridge, kind):
    maker = await make_bridge(own_server.url, CONFIG.format(create="true")).ready()
    maker.stop()
    bridge = await make_bridge(own_server.url, CONFIG.format(create="false")).ready()
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done(after=0.05)])
        asked = await work_that_fails_once(world, kind, 5)
        await until(lambda: all(asked.values()))
        async with kept_full(world, kind):
            await bridge.log("queue.due_item_held_up", queue="Q")
        for task_id in asked:  # the server moves them when there is room
            assert (await world.until_state(task_id, "complete")).tries == 2
        assert bridge.metric("ajc_bridge_due_items_put_total") == 0


async def empty(world: World) -> bool:
    return (await world.info("CHORIA_AJ_Q_Q"))["state"]["messages"] == 0
