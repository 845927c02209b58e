"""Slots among queues, and what holds none: weights, limits, parking, ten thousand waiting retries."""

from __future__ import annotations

import asyncio
from signal import SIGHUP

import pytest
from bridge_process import until
from outside import SECOND, World, world_of
from scripted_responder import Reply, Request, Responder, done, failed

from ajc.instant import Instant
from ajc.task import Task

row = pytest.mark.row
WEIGHTS = """
[bridge]
concurrency = 8
[queues.A]
priority = {a}
max_concurrent = -1
[queues.B]
priority = {b}
max_concurrent = -1
"""


async def fill(world: World, queue: str, kind: str, count: int, **fields: object) -> list[Task]:
    """Enqueue many at once."""
    tasks = [world.task(kind, queue=queue, **fields) for _ in range(count)]
    await world.enqueue_all(tasks)
    return tasks


class Worker:
    """Takes its time for each request, and knows how many are under way for each queue."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.served: list[str] = []
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.together = 0

    def __call__(self, request: Request) -> Reply | None:
        queue = request.header("AJ-Queue") or ""
        self.served.append(queue)
        self.now[queue] = self.now.get(queue, 0) + 1
        self.most[queue] = max(self.most.get(queue, 0), self.now[queue])
        self.together = max(self.together, sum(self.now.values()))
        asyncio.get_running_loop().call_later(self.seconds, self._end, request, queue)
        return None

    def _end(self, request: Request, queue: str) -> None:
        self.now[queue] -= 1
        assert self.responder is not None
        self.responder.send(request, done())

    responder: Responder | None = None


async def serve(world: World, kind: str, seconds: float) -> Worker:
    worker = Worker(seconds)
    worker.responder = await world.serve(kind, worker)
    return worker


@row("Priority: two queues with weights 3:1 under load get about 3:1 of the slots; changed by SIGHUP")
async def test_weights_share_the_slots(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, WEIGHTS.format(a=30, b=10), level="info")
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        worker = await serve(world, kind, 0.05)
        await asyncio.gather(fill(world, "A", kind, 700), fill(world, "B", kind, 700))
        await until(lambda: len(worker.served) >= 100)
        at = len(worker.served)
        await until(lambda: len(worker.served) >= at + 200, 40)
        window = worker.served[at : at + 200]
        assert 2.0 <= window.count("A") / window.count("B") <= 4.5
        assert worker.together <= 8
        bridge.write(WEIGHTS.format(a=10, b=30))
        bridge.signal(SIGHUP)
        await bridge.log("config.applied")
        at = len(worker.served) + 20
        await until(lambda: len(worker.served) >= at + 200, 40)
        window = worker.served[at : at + 200]
        assert 2.0 <= window.count("B") / window.count("A") <= 4.5


@row("Queues: a queue at its own limit gives its share of slots to the others")
@row("Several queues in one process")
async def test_a_queue_at_its_limit_gives_its_share(own_server, make_bridge, kind):
    config = (
        "[bridge]\nconcurrency = 8\n[queues.A]\npriority = 100\nmax_concurrent = 2\n[queues.B]\nmax_concurrent = -1\n"
        "[queues.IDLE]\npriority = 100\n[queues.ALSO]\n"
    )
    bridge = make_bridge(own_server.url, config, level="info")
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        worker = await serve(world, kind, 0.3)
        await asyncio.gather(fill(world, "A", kind, 20), fill(world, "B", kind, 60))
        await until(lambda: worker.most.get("A") == 2 and worker.most.get("B", 0) >= 5, 30, lambda: str(worker.most))
        assert worker.most["A"] == 2
        assert worker.together <= 8
        assert bridge.metric("ajc_bridge_slots", state="busy") <= 8
        idle = await world.run(kind, queue="IDLE")
        await world.settled(idle, "complete")
        await until(lambda: worker.served.count("A") == 20 and worker.served.count("B") == 60, 60)


@row("Retries, parking and waits hold no slot")
async def test_parking_holds_no_slot(own_server, make_bridge, kind):
    config = "[bridge]\nconcurrency = 1\n[queues.Q]\nmax_concurrent = 1"
    bridge = make_bridge(own_server.url, config)
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        responder = await world.serve(kind, [done()])
        nobody = await fill(world, "Q", f"{kind}-nobody", 20)
        leased = await fill(world, "Q", kind, 5, state="active", tries=1, tried=Instant.now())
        blocked = await fill(world, "Q", kind, 5, state="blocked")
        for task in (nobody[-1], leased[-1], blocked[-1]):
            await world.until_schedule("Q", task.id)
        task = await world.run(kind, queue="Q")
        await world.settled(task, "complete")
        assert (await world.consumer("Q"))["num_ack_pending"] <= 1
        assert len(responder.requests) == 1
        assert bridge.metric("ajc_bridge_parked", queue="Q") == 20


@row("10,000 tasks waiting for a retry leave the queue's other tasks at full speed")
@pytest.mark.slow
async def test_ten_thousand_waiting_retries(own_server, make_bridge, kind):
    config = '[queues.Q]\nmax_concurrent = 50\nbackoff = "hour"\n[backoff.hour]\nsteps = ["1h"]\njitter = 0'
    bridge = make_bridge(own_server.url, config, level="info")
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()

        async def speed() -> float:
            responder = await world.serve(f"{kind}-quick", [done()])
            start = asyncio.get_running_loop().time()
            await fill(world, "Q", f"{kind}-quick", 500)
            await world.asked(responder, 500, 60)
            await responder.leave()
            return 500 / (asyncio.get_running_loop().time() - start)

        await speed()
        before = await speed()
        failing = await world.serve(f"{kind}-failing", [failed("boom")])
        for _ in range(10):
            await fill(world, "Q", f"{kind}-failing", 1_000)
        await world.asked(failing, 10_000, 120)

        async def waiting() -> bool:
            state = (await world.info("CHORIA_AJ_DELAY"))["state"]
            queue = (await world.info("CHORIA_AJ_Q_Q"))["state"]
            return bool(state["messages"] == 10_000 and queue["messages"] == 0)

        await world.until_async(waiting, "10,000 schedules", 60)
        assert (await world.consumer("Q"))["num_ack_pending"] == 0
        after = max(await speed(), await speed())
        assert after > before / 3, f"{before:.0f} tasks/s before, {after:.0f} with 10,000 waiting"


@row("Nobody there: the catch-all is asked where it is enabled")
async def test_the_catchall_is_asked_where_nobody_serves_the_type(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, '[exec]\ncatchall = true\nprefix = "CHORIA_AJ.H.T"\n[queues.Q]')
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        nobody = await world.run(kind, queue="Q")
        await world.until_schedule("Q", nobody.id)
        assert (await world.load(nobody.id)).last_err == f"no responder on CHORIA_AJ.H.T.{kind}"
        catchall = await world.serve("catchall", [done(b"caught")], prefix="CHORIA_AJ.H.T")
        found = await world.settled(nobody, "complete")
        assert (found.tries, found.result.data) == (1, b"caught")
        assert catchall.last.header("AJ-Task-Type") == kind
        own = await world.serve(kind, [done(b"own")], prefix="CHORIA_AJ.H.T")
        task = await world.run(kind, queue="Q")
        found = await world.settled(task, "complete")
        assert found.result.data == b"own"
        assert len(own.requests) == 1


@row("An item that waits is moved by the server itself, with no bridge running")
async def test_the_server_moves_waiting_items(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, "[queues.Q]").ready()
    async with world_of(own_server.url, bridge) as world:
        task = world.task(kind, queue="Q", state="retry", tries=1, next_try_at=Instant.now().plus(3 * SECOND))
        await world.enqueue(task)
        await world.until_schedule("Q", task.id)
        bridge.stop()

        async def arrived() -> bool:
            return await world.item("Q", task.id) is not None

        await world.until_async(arrived, "the item did not come")
