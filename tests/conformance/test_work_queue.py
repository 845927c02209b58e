"""`ports.WorkQueue`: pulls, leases, verdicts."""

from __future__ import annotations

import asyncio

from worlds import OpenQueue, Opens, ServerWorld, World, until

from ajc.work_item import WorkItem
from ajc_bridge.ports import Lease

LEASE = 0.6


async def put(world: World, queue: OpenQueue, *names: str) -> None:
    for name in names:
        await world.put_item(queue.name, name, WorkItem(task_id=name).encode())


async def pull(queue: OpenQueue, want: int = 10, wait: float = 0) -> list[Lease]:
    got: list[Lease] = []
    came = await queue.port.pull(want, wait, got.append)
    assert came == len(got)
    return got


async def counted(world: ServerWorld, queue: OpenQueue, items: int) -> None:
    """Wait until the consumer counts what is stored: a moment after the word that it is."""
    asked = f"CONSUMER.INFO.CHORIA_AJ_Q_{queue.name}.WORKERS"
    async with asyncio.timeout(10):
        while (await world.connection.api(asked))["num_pending"] != items:
            await asyncio.sleep(0.01)


def names(leases: list[Lease]) -> list[str]:
    return [lease.subject_id for lease in leases]


async def test_an_empty_queue_ends_a_pull_at_once(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        began = world.monotonic()
        assert await pull(queue) == []
        assert world.monotonic() - began < 2


async def test_what_an_item_says(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a")
        before = world.monotonic()
        (lease,) = await pull(queue)
        assert (lease.queue, lease.subject_id, lease.deliveries, lease.backlog, lease.lost) == (
            queue.name,
            "a",
            1,
            0,
            False,
        )
        assert WorkItem.decode(lease.body).task_id == "a"
        assert before <= lease.received <= world.monotonic()
        assert 27 <= lease.until - lease.received <= 30.5


async def test_an_item_of_any_bytes(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        for name, body in (("a", b""), ("b", b"\x00\xff"), ("c", b"{")):
            await world.put_item(queue.name, name, body)
        assert [(lease.subject_id, lease.body) for lease in await pull(queue)] == [
            ("a", b""),
            ("b", b"\x00\xff"),
            ("c", b"{"),
        ]


async def test_a_pull_brings_no_more_than_it_asked_for_in_order(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, *"abcde")
        if isinstance(world, ServerWorld):
            await counted(world, queue, 5)
        first = await pull(queue, 2)
        assert names(first) == ["a", "b"]
        assert [lease.backlog for lease in first] == [4, 3]
        assert names(await pull(queue, 10)) == ["c", "d", "e"]
        assert await pull(queue) == []


async def test_a_pull_ends_when_what_was_there_has_come(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, *"abc")
        began = world.monotonic()
        assert names(await pull(queue, 50, 20)) == ["a", "b", "c"]
        assert world.monotonic() - began < 5


async def test_a_pull_waits_for_a_first_item(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        pulling = asyncio.create_task(pull(queue, 50, 20))
        await asyncio.sleep(0.2)
        assert not pulling.done()
        began = world.monotonic()
        await put(world, queue, "a")
        assert names(await pulling) == ["a"]
        assert world.monotonic() - began < 5


async def test_a_pull_waits_no_longer_than_it_may(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        began = world.monotonic()
        assert await pull(queue, 5, 0.4) == []
        assert 0.3 <= world.monotonic() - began < 2


async def test_ack_lets_the_item_go(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a", "b")
        first, second = await pull(queue)
        queue.port.ack(first)
        await until(lambda: _is(world, queue, 1))
        queue.port.ack(first)  # once more changes nothing
        queue.port.ack(second)
        await until(lambda: _is(world, queue, 0))


async def test_nak_gives_it_back_at_once(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        queue.port.nak(lease)
        (again,) = await pull(queue, 1, 5)
        assert (again.subject_id, again.deliveries) == ("a", 2)
        assert again.received - lease.received < 5


async def test_nak_lets_a_pull_that_waits_have_it(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        other = await world.queue(name=queue.name)
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        pulling = asyncio.create_task(pull(other, 1, 10))
        await asyncio.sleep(0.1)
        queue.port.nak(lease)
        assert names(await pulling) == ["a"]


async def test_an_item_comes_again_after_its_lease(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue(lease=LEASE)
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        assert await pull(queue) == []
        (again,) = await pull(queue, 1, 10)
        assert (again.subject_id, again.deliveries, again.body) == ("a", 2, lease.body)
        assert again.received - lease.received >= LEASE - 0.1


async def test_a_verdict_on_a_lease_that_is_over_is_not_sent(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue(lease=LEASE)
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        (again,) = await pull(queue, 1, 10)
        queue.port.ack(lease)
        assert lease.lost
        queue.port.nak(lease)
        assert await pull(queue, 1, 0.1) == []  # the second delivery is still somebody's
        assert await world.items(queue.name) == 1
        queue.port.ack(again)
        await until(lambda: _is(world, queue, 0))


async def test_a_verdict_on_a_lease_that_was_given_up_is_not_sent(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        lease.lost = True
        queue.port.ack(lease)
        queue.port.nak(lease)
        assert await pull(queue, 1, 0.2) == []
        assert await world.items(queue.name) == 1


async def test_a_renewed_lease_lasts(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue(lease=LEASE)
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        until_before = lease.until
        for _ in range(4):
            await asyncio.sleep(LEASE / 2)
            await queue.port.renew(lease)
        assert lease.until > until_before + LEASE
        assert lease.until <= world.monotonic() + LEASE
        assert await pull(queue) == []
        queue.port.ack(lease)
        await until(lambda: _is(world, queue, 0))


async def test_items_at_the_queues_own_limit(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue(max_ack_pending=2)
        await put(world, queue, *"abc")
        held = await pull(queue)
        assert names(held) == ["a", "b"]
        began = world.monotonic()
        assert await pull(queue) == []
        assert world.monotonic() - began < 2
        pulling = asyncio.create_task(pull(queue, 1, 10))
        await asyncio.sleep(0.1)
        queue.port.ack(held[0])
        assert names(await pulling) == ["c"]


async def test_a_second_item_of_a_task_takes_the_place_of_the_first(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a", "b")
        await world.put_item(queue.name, "a", b"newer")
        assert await world.items(queue.name) == 2
        assert [(lease.subject_id, lease.body) for lease in await pull(queue)][-1] == ("a", b"newer")


async def test_an_item_that_is_replaced_while_it_is_leased_comes_afresh(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        await world.put_item(queue.name, "a", b"newer")
        (fresh,) = await pull(queue, 1, 5)
        assert (fresh.body, fresh.deliveries) == (b"newer", 1)
        queue.port.ack(lease)  # of an item that is gone
        await asyncio.sleep(0.1)
        assert await world.items(queue.name) == 1


async def test_two_bridges_share_a_queue(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        other = await world.queue(name=queue.name)
        await put(world, queue, *(f"i{number}" for number in range(40)))
        taken = await asyncio.gather(pull(queue, 15), pull(other, 15))
        rest = await pull(queue, 40)
        every = [name for part in (*taken, rest) for name in names(part)]
        assert sorted(every) == sorted({f"i{number}" for number in range(40)})


async def test_what_comes_after_its_pull_was_given_up_is_handed_over_late(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        pulling = asyncio.create_task(pull(queue, 3, 10))
        await asyncio.sleep(0.1)
        pulling.cancel()
        await asyncio.wait({pulling})
        await put(world, queue, "a")
        await until(lambda: queue.late)
        assert names(queue.late) == ["a"]
        queue.port.ack(queue.late[0])
        await until(lambda: _is(world, queue, 0))


async def test_many_items_in_one_pull(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        every = [f"i{number:03}" for number in range(300)]
        await asyncio.gather(*(put(world, queue, name) for name in every))
        got = await pull(queue, 1000, 5)
        while len(got) < len(every):
            got += await pull(queue, 1000, 5)
        assert sorted(names(got)) == every


async def test_a_lease_of_an_item_that_is_gone_cannot_be_renewed_to_no_harm(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue = await world.queue()
        await put(world, queue, "a")
        (lease,) = await pull(queue)
        queue.port.ack(lease)
        await until(lambda: _is(world, queue, 0))
        renewing = asyncio.ensure_future(queue.port.renew(lease))
        await asyncio.wait({renewing}, timeout=10)
        assert await world.items(queue.name) == 0


async def _is(world: World, queue: OpenQueue, count: int) -> bool:
    return await world.items(queue.name) == count
