"""`ports.Census` and `ports.RecordScan`."""

from __future__ import annotations

import asyncio

from worlds import OpenQueue, Opens, ServerWorld, World, make_task, unique, until

from ajc.work_item import WorkItem
from ajc_bridge.ports import Lease

SECOND = 1_000_000_000
LEASE = 0.3


async def exhausted(world: World, *names: str, deliveries: int = 1) -> OpenQueue:
    """A queue whose items reached the server's cap."""
    queue = await world.queue(lease=LEASE, max_deliver=deliveries)
    for name in names:
        await world.put_item(queue.name, name, WorkItem(name).encode())
    got: list[Lease] = []
    deadline = world.monotonic() + 20
    while len(got) < deliveries * len(names) and world.monotonic() < deadline:
        await queue.port.pull(10, 1, got.append)
    await asyncio.sleep(LEASE)
    # the server looks at what it gives up only while somebody asks
    pulls = [asyncio.ensure_future(queue.port.pull(1, 1, got.append))]
    await until(lambda: len(queue.given_up) == len(names))
    await asyncio.wait(pulls)
    assert len(got) == deliveries * len(names)
    return queue


async def test_an_item_at_its_cap_is_told_of_and_found(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await exhausted(world, "a", deliveries=2)
        item = await queue.census.exhausted(queue.given_up[0])
        assert item is not None
        assert (item.subject_id, item.body, item.sequence) == ("a", WorkItem("a").encode(), queue.given_up[0])
        assert item.deliveries >= 1


async def test_stranded_items_are_found_without_being_told_of(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await exhausted(world, "a", "b")
        found = await queue.census.stranded()
        assert sorted(item.subject_id for item in found) == ["a", "b"]
        assert {item.sequence for item in found} == set(queue.given_up)


async def test_a_stranded_item_has_its_records_revision_when_nobody_was_told_of_it(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task = make_task()
        revision = await world.store.save(task.id, task.encode(), 0)
        queue = await exhausted(world, task.id, unique("t"))
        found = {item.subject_id: item.revision for item in await queue.census.stranded()}
        assert sorted(found.values(), key=str) == sorted([0, revision], key=str)
        assert found[task.id] == revision
        item = await queue.census.exhausted(queue.given_up[0])
        assert item is not None
        assert item.revision is None  # the server named it


async def test_beside_a_stranded_item_a_leased_one_is_never_taken_for_it(ports_under_test: Opens) -> None:
    """However old the record of the leased one is, and however young that of the stranded one."""
    async with ports_under_test() as world:
        queue = await world.queue(lease=1.0, max_deliver=1)
        leased, stranded = make_task(), make_task()
        await world.store.save(leased.id, leased.encode(), 0)
        revision = await world.store.save(stranded.id, stranded.encode(), 0)
        await world.put_item(queue.name, stranded.id, WorkItem(stranded.id).encode())
        got: list[Lease] = []
        await queue.port.pull(1, 1, got.append)
        await asyncio.sleep(1.0)
        await world.put_item(queue.name, leased.id, WorkItem(leased.id).encode())
        await until(lambda: _takes(queue, got, 2))
        await until(lambda: queue.given_up)
        await world.store.save(stranded.id, stranded.encode(), revision)
        end = world.monotonic() + 0.8  # the other one is leased until then
        while world.monotonic() < end:
            found = {item.subject_id for item in await queue.census.stranded()}
            assert leased.id not in found
            await asyncio.sleep(0.1)


async def _takes(queue: OpenQueue, got: list[Lease], count: int) -> bool:
    await queue.port.pull(1, 0, got.append)
    return len(got) >= count


async def test_what_waits_or_is_leased_is_not_stranded(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue(max_deliver=3)
        for name in ("a", "b"):
            await world.put_item(queue.name, name, WorkItem(name).encode())
        got: list[Lease] = []
        await queue.port.pull(1, 0, got.append)
        assert await queue.census.stranded() == []


async def test_a_queue_without_a_cap_strands_nothing(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await world.put_item(queue.name, "a", b"x")
        assert await queue.census.stranded() == []


async def test_forget_twice(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await exhausted(world, "a")
        (item,) = await queue.census.stranded()
        await queue.census.forget(item)
        assert await world.items(queue.name) == 0
        await queue.census.forget(item)
        assert await queue.census.exhausted(item.sequence) is None
        assert await queue.census.stranded() == []


async def test_forget_leaves_a_newer_item_of_the_task(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await exhausted(world, "a")
        (item,) = await queue.census.stranded()
        await world.put_item(queue.name, "a", b"newer")
        await queue.census.forget(item)
        assert await world.items(queue.name) == 1


async def test_an_item_that_never_was(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue(max_deliver=1)
        assert await queue.census.exhausted(4711) is None


async def test_has_item_looks_in_the_queue_and_among_the_schedules(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, other = await world.queue(), await world.queue()
        waiting, later, leased, none = unique("t"), unique("t"), unique("t"), unique("t")
        await world.put_item(queue.name, leased, b"x")
        got: list[Lease] = []
        await queue.port.pull(1, 0, got.append)
        await world.put_item(queue.name, waiting, b"x")
        await world.delay.schedule(queue.name, later, world.now().plus(3600 * SECOND), WorkItem(later))
        assert [await queue.census.has_item(name) for name in (waiting, later, leased, none)] == [
            True,
            True,
            True,
            False,
        ]
        assert not await other.census.has_item(waiting)
        assert not await other.census.has_item(later)
        queue.port.ack(got[0])
        await until(lambda: _has_none(queue, leased))


async def _has_none(queue: OpenQueue, task_id: str) -> bool:
    return not await queue.census.has_item(task_id)


async def test_a_scan_reads_each_record_once_in_the_order_of_its_last_change(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        scan = world.scan()
        while await scan.next(500):
            pass
        tasks = [make_task() for _ in range(5)]
        revisions = [await world.store.save(task.id, task.encode(), 0) for task in tasks]
        revisions[1] = await world.store.save(tasks[1].id, tasks[1].encode(), revisions[1])
        seen = []
        while found := await scan.next(2):
            assert len(found) <= 2
            seen += found
        order = [0, 2, 3, 4, 1]
        assert [record.task for record in seen] == [tasks[index] for index in order]
        assert [record.revision for record in seen] == [revisions[index] for index in order]
        assert await scan.next(2) == []
        revisions[3] = await world.store.save(tasks[3].id, b"{", revisions[3])
        (again,) = await scan.next(2)
        assert (again.task_id, again.task, again.revision) == (tasks[3].id, None, revisions[3])
        assert again.malformed


async def test_a_scan_tells_the_records_that_the_store_itself_removes_in_time(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        scan = world.scan()
        while await scan.next(500):
            pass
        kept, limited = make_task(), make_task()
        await world.store.save(kept.id, kept.encode(), 0)
        revision = await world.store.save(limited.id, limited.encode(), 0, ttl_ns=3600 * SECOND)
        assert [record.expires for record in await scan.next(5)] == [False, True]
        await world.store.save(limited.id, limited.encode(), revision)
        assert [record.expires for record in await scan.next(5)] == [False]


async def test_a_scan_that_begins_anew_reads_all_of_them_again(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task = make_task()
        await world.store.save(task.id, task.encode(), 0)
        scan = world.scan()
        for _ in range(2):
            names = []
            while found := await scan.next(500):
                names += [record.task_id for record in found]
            assert names.count(task.id) == 1
            scan.rewind()


async def test_records_that_are_large_come_in_smaller_pages(server: object) -> None:
    async with ServerWorld.open(server) as world:
        scan = world.scan()
        while await scan.next(500):
            pass
        names = [unique("t") for _ in range(12)]
        for name in names:
            await world.store.save(name, bytes(900_000), 0)
        pages = []
        while page := await scan.next(256):
            pages.append(len(page))
            assert sum(len(record.data) for record in page) < 6_000_000
        assert sum(pages) == 12
        assert len(pages) > 2
