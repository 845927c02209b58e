"""A weighted subject mapping of the server sends a part of a type to a new version; nobody else knows of it."""

from __future__ import annotations

import math

from bridge_process import BridgeProcess, until
from outside import World, world_of
from scripted_responder import Responder, done

from ajc.task import Task

TYPE = "email:new"
NEXT = "email:new:v2"


def mapping(*weights: tuple[str, int]) -> str:
    destinations = "\n".join(f'{{ destination: "ajc.exec.{name}", weight: {weight}% }}' for name, weight in weights)
    return f'mappings = {{ "ajc.exec.{TYPE}": [ {destinations} ] }}'


async def enqueued(world: World, count: int) -> list[Task]:
    tasks = [world.task(TYPE, queue="Q") for _ in range(count)]
    await world.enqueue_all(tasks)
    return tasks


async def run(world: World, count: int) -> set[str]:
    """Run so many tasks to their end; the results that came."""
    return await ended(world, await enqueued(world, count))


async def ended(world: World, tasks: list[Task]) -> set[str]:
    """Wait for the end of these; the results that came."""
    found = [await world.settled(task, "complete") for task in tasks]
    assert {task.tries for task in found} == {1}
    assert {task.type for task in found} == {TYPE}
    return {task.result.data.decode() for task in found if task.result is not None}


async def some_find_nobody(bridge: BridgeProcess) -> None:
    """With a quarter of 40 or a fifth of 60: nobody missed is once in a hundred thousand runs."""
    await until(lambda: bridge.logs("attempt.ended", outcome="no_responder"), say="each found a responder")


def shares(old: Responder, new: Responder) -> tuple[int, int]:
    counts = len(old.requests), len(new.requests)
    old.requests.clear()
    new.requests.clear()
    return counts


async def test_a_tenth_of_a_type_goes_to_a_new_version_while_everything_runs(make_server, make_bridge) -> None:
    server = make_server("")
    bridge = await make_bridge(server.url, "[queues.Q]\nmax_concurrent = -1", level="info").ready()
    pid = bridge.pid
    async with world_of(server.url, bridge) as world:
        old = await world.serve(TYPE, [done(b"old")])
        new = await world.serve(NEXT, [done(b"new")])
        assert await run(world, 50) == {"old"}
        assert shares(old, new) == (50, 0)

        count, part = 1_000, 0.1
        await server.reload(mapping((TYPE, 90), (NEXT, 10)))
        assert await run(world, count) == {"old", "new"}
        asked = {request.header("AJ-Task-Type") for request in new.requests}
        assert asked == {TYPE}
        first, second = shares(old, new)
        assert first + second == count, "each task was run once"
        # five standard deviations: once in two million runs
        assert abs(second - count * part) < 5 * math.sqrt(count * part * (1 - part)), f"{second} of {count}"

        await server.reload(mapping((TYPE, 0), (NEXT, 100)))
        assert await run(world, 50) == {"new"}
        assert shares(old, new) == (0, 50)

        await server.reload("mappings = {}")
        assert await run(world, 50) == {"old"}
        assert bridge.pid == pid
        assert bridge.running
        assert not bridge.logs("nats.disconnected"), "a reload closes no connection"


async def test_a_new_version_that_is_away_costs_no_try(make_server, make_bridge) -> None:
    """EXEC-40: the mapped subject has nobody, so the server says so, and the task comes back."""
    server = make_server(mapping((TYPE, 75), (NEXT, 25)))
    bridge = await make_bridge(server.url, "[queues.Q]\nmax_concurrent = -1").ready()
    async with world_of(server.url, bridge) as world:
        old = await world.serve(TYPE, [done(b"old")])
        tasks = await enqueued(world, 40)
        await some_find_nobody(bridge)
        # by chance alone a task may find nobody five times in a row, and wait for half a minute
        await server.reload("mappings = {}")
        assert await ended(world, tasks) == {"old"}
        assert len(old.requests) == 40


async def test_weights_below_a_hundred(make_server, make_bridge) -> None:
    """What the recipe says of them: the rest goes to the type's own subject, when that is not named."""
    server = make_server(mapping((NEXT, 50)))
    bridge = await make_bridge(server.url, "[queues.Q]\nmax_concurrent = -1").ready()
    async with world_of(server.url, bridge) as world:
        old = await world.serve(TYPE, [done(b"old")])
        new = await world.serve(NEXT, [done(b"new")])
        assert await run(world, 100) == {"old", "new"}
        first, second = shares(old, new)
        assert first + second == 100
        assert 20 < second < 80
        await server.reload(mapping((TYPE, 40), (NEXT, 40)))
        tasks = await enqueued(world, 60)
        await some_find_nobody(bridge)
        await server.reload("mappings = {}")
        await ended(world, tasks)
