"""`ports.DelayQueue`."""

from __future__ import annotations

from worlds import OpenQueue, Opens, World, unique, until

from ajc.work_item import WorkItem
from ajc_bridge.ports import Lease

SECOND = 1_000_000_000
EARLY = 0.05


async def arrivals(world: World, queue: OpenQueue, count: int = 1, seconds: float = 10) -> list[Lease]:
    got: list[Lease] = []
    deadline = world.monotonic() + seconds
    while len(got) < count and world.monotonic() < deadline:
        await queue.port.pull(count, max(0.1, deadline - world.monotonic()), got.append)
    return got


async def test_an_item_arrives_at_its_time(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = await world.queue(), unique("t")
        began = world.monotonic()
        await world.delay.schedule(queue.name, task_id, world.now().plus(6 * SECOND // 10), WorkItem(task_id, waits=3))
        (lease,) = await arrivals(world, queue)
        assert world.monotonic() - began >= 0.6 - EARLY
        assert (lease.subject_id, lease.deliveries) == (task_id, 1)
        assert WorkItem.decode(lease.body) == WorkItem(task_id, waits=3)


async def test_an_instant_that_has_passed_is_now(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = await world.queue(), unique("t")
        await world.delay.schedule(queue.name, task_id, world.now().plus(-3600 * SECOND), WorkItem(task_id))
        assert [lease.subject_id for lease in await arrivals(world, queue, seconds=5)] == [task_id]


async def test_a_later_schedule_takes_the_place_of_an_earlier_one(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = await world.queue(), unique("t")
        await world.delay.schedule(queue.name, task_id, world.now().plus(SECOND // 2), WorkItem(task_id, waits=1))
        await world.delay.schedule(queue.name, task_id, world.now().plus(SECOND), WorkItem(task_id, waits=2))
        got = await arrivals(world, queue, count=2, seconds=2)
        assert [WorkItem.decode(lease.body).waits for lease in got] == [2]


async def test_the_same_schedule_twice_is_one_item(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = await world.queue(), unique("t")
        at = world.now().plus(SECOND // 2)
        for _ in range(2):
            await world.delay.schedule(queue.name, task_id, at, WorkItem(task_id))
        assert len(await arrivals(world, queue, count=2, seconds=1.5)) == 1


async def test_tasks_and_queues_are_apart(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        one, two = await world.queue(), await world.queue()
        first, second = unique("t"), unique("t")
        at = world.now().plus(SECOND // 3)
        for queue, task_id in ((one, first), (one, second), (two, first)):
            await world.delay.schedule(queue.name, task_id, at, WorkItem(task_id))
        assert sorted(lease.subject_id for lease in await arrivals(world, one, 2)) == sorted([first, second])
        assert [lease.subject_id for lease in await arrivals(world, two, 1)] == [first]


async def test_an_item_that_is_leased_may_be_scheduled_again(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = await world.queue(), unique("t")
        await world.put_item(queue.name, task_id, WorkItem(task_id).encode())
        (lease,) = await arrivals(world, queue)
        await world.delay.schedule(queue.name, task_id, world.now().plus(SECOND // 3), WorkItem(task_id, waits=1))
        queue.port.ack(lease)
        (again,) = await arrivals(world, queue)
        assert (WorkItem.decode(again.body).waits, again.deliveries) == (1, 1)
        queue.port.ack(again)
        await until(lambda: _is_empty(world, queue))


async def _is_empty(world: World, queue: OpenQueue) -> bool:
    return await world.items(queue.name) == 0


async def test_a_schedule_that_is_forgotten_never_comes(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id, other = await world.queue(), unique("t"), unique("t")
        for name in (task_id, other):
            await world.delay.schedule(queue.name, name, world.now().plus(SECOND // 2), WorkItem(name))
        for _ in range(2):
            await world.delay.forget(queue.name, task_id)
        assert not await queue.census.has_item(task_id)
        assert [lease.subject_id for lease in await arrivals(world, queue, count=2, seconds=1.5)] == [other]
        await world.delay.forget(queue.name, task_id)
        await world.delay.schedule(queue.name, task_id, world.now(), WorkItem(task_id))
        assert [lease.subject_id for lease in await arrivals(world, queue, seconds=5)] == [task_id]
