"""`ports.TaskStore`."""

from __future__ import annotations

import asyncio

import pytest
from worlds import Opens, make_task, unique, until

from ajc.errors import Conflict, InvalidValue, TooLarge

SECOND = 1_000_000_000


@pytest.mark.parametrize("leader", [False, True])
async def test_a_task_that_is_not_there(ports_under_test: Opens, leader: bool) -> None:
    async with ports_under_test() as world:
        assert await world.store.load(unique("t"), leader=leader) is None


@pytest.mark.parametrize("leader", [False, True])
async def test_what_was_saved_is_loaded(ports_under_test: Opens, leader: bool) -> None:
    async with ports_under_test() as world:
        task = make_task(last_err="é\n")
        before = world.now()
        revision = await world.store.save(task.id, task.encode(), 0)
        record = await world.store.load(task.id, leader=leader)
        assert record is not None
        assert (record.task_id, record.data, record.revision, record.task, record.malformed) == (
            task.id,
            task.encode(),
            revision,
            task,
            "",
        )
        assert abs(record.stored_at - before) < 10 * SECOND


@pytest.mark.parametrize("leader", [False, True])
@pytest.mark.parametrize("data", [b"", b"{", b"\x00\xff", b'{"id":5}'])
async def test_a_record_that_is_no_task_says_why(ports_under_test: Opens, leader: bool, data: bytes) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        revision = await world.store.save(task_id, data, 0)
        record = await world.store.load(task_id, leader=leader)
        assert record is not None
        assert (record.data, record.revision, record.task) == (data, revision, None)
        assert record.malformed


async def test_a_save_needs_the_revision_that_is_there(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        with pytest.raises(Conflict):
            await world.store.save(task_id, b"1", 17)
        first = await world.store.save(task_id, b"1", 0)
        with pytest.raises(Conflict):
            await world.store.save(task_id, b"2", 0)
        second = await world.store.save(task_id, b"2", first)
        assert second > first
        with pytest.raises(Conflict):
            await world.store.save(task_id, b"3", first)
        record = await world.store.load(task_id, leader=True)
        assert record is not None
        assert (record.data, record.revision) == (b"2", second)


async def test_of_many_saves_at_once_one_wins(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        first = await world.store.save(task_id, b"1", 0)
        saves = [world.store.save(task_id, b"%d" % number, first) for number in range(20)]
        outcomes = await asyncio.gather(*saves, return_exceptions=True)
        won = [(number, outcome) for number, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        assert len(won) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
        record = await world.store.load(task_id, leader=True)
        assert record is not None
        assert (record.data, record.revision) == (b"%d" % won[0][0], won[0][1])


async def test_too_large_is_known_before_anything_is_sent(ports_that_break: Opens) -> None:
    async with ports_that_break() as world:
        task_id = unique("t")
        limit = world.store.limit
        revision = await world.store.save(task_id, b"x" * limit, 0, ttl_ns=3600 * SECOND)
        with pytest.raises(TooLarge) as caught:
            await world.store.save(task_id, b"x" * (limit + 1024), revision)
        assert caught.value.size > limit
        await world.go_away()
        with pytest.raises(TooLarge):
            await world.store.save(task_id, b"x" * (limit + 1024), revision)
        await world.come_back()
        record = await until(lambda: world.store.load(task_id, leader=True))
        assert record.revision == revision


async def test_a_record_vanishes_at_its_time(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        await world.store.save(task_id, b"1", 0, ttl_ns=1)  # the server has no shorter time than a second
        assert await world.store.load(task_id, leader=True) is not None
        await until(lambda: _gone(world, task_id))
        assert await world.store.load(task_id, leader=True) is None


async def _gone(world: object, task_id: str) -> bool:
    return await world.store.load(task_id) is None  # type: ignore[attr-defined]


async def test_a_later_save_keeps_what_an_earlier_one_would_have_let_go(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        first = await world.store.save(task_id, b"1", 0, ttl_ns=SECOND)
        await world.store.save(task_id, b"2", first)
        await asyncio.sleep(1.6)
        record = await world.store.load(task_id)
        assert record is not None
        assert record.data == b"2"


async def test_discard_twice(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        revision = await world.store.save(task_id, b"1", 0)
        await world.store.discard(task_id, revision)
        assert await world.store.load(task_id) is None
        assert await world.store.load(task_id, leader=True) is None
        await world.store.discard(task_id, revision)
        await world.store.save(task_id, b"2", 0)


async def test_discard_never_removes_another_revision(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id = unique("t")
        first = await world.store.save(task_id, b"1", 0)
        second = await world.store.save(task_id, b"2", first)
        with pytest.raises(Conflict):
            await world.store.discard(task_id, first)
        record = await world.store.load(task_id, leader=True)
        assert record is not None
        assert record.revision == second


async def test_many_loads_at_once_each_get_their_own(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        there = [unique("t") for _ in range(700)]
        missing = [unique("t") for _ in range(500)]
        await asyncio.gather(*(world.store.save(task_id, task_id.encode(), 0) for task_id in there))
        asked = [*missing[:100], *there, *missing[100:], *there[:50], *missing[:50]]
        records = await asyncio.gather(*(world.store.load(task_id) for task_id in asked))
        assert [record.data.decode() if record is not None else None for record in records] == [
            task_id if task_id in set(there) else None for task_id in asked
        ]


async def test_a_load_that_is_given_up_takes_no_other_with_it(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        task_id, other = unique("t"), unique("t")
        await world.store.save(task_id, b"1", 0)
        given_up = [asyncio.ensure_future(world.store.load(name)) for name in (task_id, other)]
        kept = asyncio.ensure_future(world.store.load(task_id))
        await asyncio.sleep(0)
        for load in given_up:
            load.cancel()
        record = await kept
        assert record is not None
        assert record.data == b"1"


async def test_a_store_that_keeps_its_records_says_so_and_stores_nothing(ports_that_keep: Opens) -> None:
    """Then, for a while, it keeps them without a word."""
    async with ports_that_keep() as world:
        with pytest.raises(InvalidValue):
            await world.store.save("a", b"1", 0, ttl_ns=SECOND)
        assert await world.store.load("a", leader=True) is None
        revision = await world.store.save("a", b"1", 0)
        assert revision
