"""A save whose answer was lost is read back before anything is decided."""

from __future__ import annotations

import asyncio

import pytest
from pipeline_world import Pipe

from ajc.errors import Conflict, InvalidValue, TooLarge, Unavailable
from ajc_bridge.happenings import SaveFailed, Trouble
from ajc_bridge.pipeline.saving import LONGEST_PAUSE, load_surely, save_again

FIRST = Unavailable("no answer")


async def again(pipe: Pipe, body: bytes = b"ours", revision: int = 1, **options: int) -> int:
    return await save_again(pipe.ports, "Q", "t1", body, revision=revision, error=FIRST, **options)


async def test_a_save_that_never_landed_is_repeated() -> None:
    pipe = Pipe()
    revision = pipe.store.put("t1", b"before")
    assert await again(pipe, revision=revision) == revision + 1
    assert pipe.record().data == b"ours"
    assert pipe.line.names() == ["store.load_leader", "store.save"]


async def test_a_save_that_landed_is_not() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    landed = pipe.store.put("t1", b"ours")
    assert await again(pipe, revision=before) == landed
    assert pipe.line.names() == ["store.load_leader"]


async def test_a_first_save_that_never_landed_is_repeated() -> None:
    pipe = Pipe()
    assert await again(pipe, revision=0) == 1


async def test_somebody_elses_save_is_a_conflict() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.store.put("t1", b"theirs")
    with pytest.raises(Conflict):
        await again(pipe, revision=before)
    assert pipe.record().data == b"theirs"


async def test_a_removed_record_is_a_conflict() -> None:
    pipe = Pipe()
    with pytest.raises(Conflict):
        await again(pipe, revision=3)


async def test_a_repeated_save_whose_answer_is_lost_too_is_read_back_again() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.line.fail("store.save", landed=True)
    assert await again(pipe, revision=before) == before + 1
    assert pipe.line.names() == ["store.load_leader", "store.save", "store.load_leader"]
    assert len(pipe.notes.of(SaveFailed)) == 2


async def test_the_first_save_may_land_only_after_it_was_looked_for() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.line.latency = 0.01
    saving = asyncio.ensure_future(again(pipe, revision=before))
    await asyncio.sleep(0.065)  # the pause and the read are over, the second save is under way
    landed = pipe.store.put("t1", b"ours")
    assert await saving == landed


async def test_a_conflict_with_a_record_that_is_still_the_old_one_stays_a_conflict() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.line.fail("store.save", Conflict("task t1"))
    with pytest.raises(Conflict):
        await again(pipe, revision=before)


async def test_what_can_never_be_saved_says_so() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    with pytest.raises(TooLarge):
        await again(pipe, b"x" * (pipe.store.limit + 1), before)


async def test_it_lasts_as_long_as_the_store_is_away_with_pauses_that_grow() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.server.go_away()
    saving = asyncio.ensure_future(again(pipe, revision=before, ttl_ns=3_600 * 10**9))
    await asyncio.sleep(3600)
    assert not saving.done()
    assert 3600 / LONGEST_PAUSE <= len(pipe.line.calls) + 1 <= 3600 / LONGEST_PAUSE + 10
    pipe.server.come_back()
    assert await saving == before + 1
    await asyncio.sleep(3601)
    assert pipe.store.get("t1") is None  # its time was kept


async def test_a_time_to_live_that_is_refused_after_a_lost_answer_is_let_go_of() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.store.allow_ttl = False
    pipe.line.fail("store.save")
    assert await again(pipe, revision=before, ttl_ns=10**9) == before + 1
    assert pipe.line.names("store.save") == ["store.save"] * 3
    await asyncio.sleep(2)
    assert pipe.record().data == b"ours"


async def test_a_value_that_is_refused_for_another_reason_is_a_fault() -> None:
    pipe = Pipe()
    before = pipe.store.put("t1", b"before")
    pipe.line.fail("store.save", InvalidValue("body", 1, "is none"), times=None)
    with pytest.raises(InvalidValue):
        await again(pipe, revision=before)


async def test_it_ends_when_it_is_cancelled() -> None:
    pipe = Pipe()
    pipe.server.go_away()
    saving = asyncio.ensure_future(again(pipe))
    await asyncio.sleep(100)
    saving.cancel()
    await asyncio.wait({saving})
    assert saving.cancelled()


@pytest.mark.parametrize("leader", [False, True])
async def test_a_load_is_repeated_until_there_is_an_answer(leader: bool) -> None:
    pipe = Pipe()
    pipe.store.put("t1", b"x")
    pipe.line.fail("store.load_leader" if leader else "store.load", times=5)
    record = await load_surely(pipe.ports, "t1", leader=leader)
    assert record is not None
    assert record.data == b"x"
    assert len(pipe.notes.of(Trouble)) == 5
