"""`[retention]` for cancelled tasks, which somebody else has ended: limited by a bridge, once they are left alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pipeline_world import SECOND, Pipe, make_task

from ajc.cancel_by_hand import cancel_text, cancelled
from ajc.errors import Unavailable
from ajc_bridge.happenings import Trouble
from ajc_bridge.pipeline import retention
from ajc_bridge.pipeline.rescue import OrphanedTasks
from ajc_bridge.pipeline.retention import SETTLED_SECONDS


class Looker:
    """`OrphanedTasks`, looking every few seconds as `serving` does."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.orphans = OrphanedTasks(pipe.ports, pipe.server.scan())

    async def look_for(self, seconds: float) -> None:
        end = self.pipe.server.clock.monotonic() + seconds
        while self.pipe.server.clock.monotonic() < end:
            await self.orphans.look({"Q": self.pipe.policy}, {"Q": self.pipe.server.census("Q")})
            await asyncio.sleep(5)


def cancel(pipe: Pipe, task_id: str = "t1", **fields: Any) -> bytes:
    """Save a cancelled task as its canceller does; return the record's bytes."""
    task = cancelled(make_task(pipe.now(), id=task_id, **fields), cancel_text("enough"), pipe.now())
    pipe.store.put(task_id, task.encode())
    return task.encode()


async def test_a_cancelled_record_is_kept_for_as_long_as_terminated_ones_are() -> None:
    pipe = Pipe(retention={"terminated": 3600 * SECOND})
    body = cancel(pipe)
    before = pipe.record().revision
    looker = Looker(pipe)
    await looker.look_for(SETTLED_SECONDS - 6)
    assert pipe.record().revision == before  # its canceller may still be about
    await looker.look_for(20)
    limited = pipe.record()
    assert (limited.data, limited.expires) == (body, True)
    assert limited.revision > before
    await looker.look_for(3600 - 140)  # from the cancel on, not from the second save
    assert pipe.record().revision == limited.revision  # and limited once
    await looker.look_for(120)
    assert pipe.store.get("t1") is None
    assert not pipe.notes.details


async def test_one_that_is_not_to_be_kept_goes_once_it_is_left_alone() -> None:
    pipe = Pipe(retention={"terminated": 0})
    cancel(pipe)
    looker = Looker(pipe)
    await looker.look_for(SETTLED_SECONDS - 6)
    assert pipe.store.get("t1") is not None
    await looker.look_for(20)
    assert pipe.store.get("t1") is None


@pytest.mark.parametrize("policy", [{}, {"retention": {"complete": 0}}])
async def test_without_a_time_for_terminated_ones_it_is_kept(policy) -> None:
    pipe = Pipe(**policy)
    cancel(pipe)
    before = pipe.record().revision
    await Looker(pipe).look_for(300)
    assert pipe.record().revision == before


async def test_what_a_bridge_ended_itself_and_what_is_of_another_queue_is_left_alone() -> None:
    pipe = Pipe(retention={"terminated": 0})
    cancel(pipe, "t2", queue="OTHER")
    pipe.store.put("t3", make_task(pipe.now(), id="t3", state="terminated").encode())
    await Looker(pipe).look_for(300)
    assert pipe.store.get("t2") is not None
    assert pipe.store.get("t3") is not None


async def test_one_of_a_queue_that_is_served_later_is_found_then() -> None:
    pipe = Pipe(retention={"terminated": 0})
    cancel(pipe)
    looker = Looker(pipe)
    await looker.orphans.look({}, {})
    await looker.look_for(500)
    assert pipe.store.get("t1") is not None
    await looker.look_for(200)  # the store is read once more ten minutes after it was first
    assert pipe.store.get("t1") is None


async def test_one_that_is_wanted_again_meanwhile_is_left_alone() -> None:
    pipe = Pipe(retention={"terminated": 0})
    cancel(pipe)
    looker = Looker(pipe)
    await looker.look_for(SETTLED_SECONDS - 6)
    pipe.enqueue(id="t1")
    await looker.look_for(300)
    assert pipe.task().state == "new"


async def test_one_that_was_cancelled_again_meanwhile_is_left_to_its_second_canceller() -> None:
    pipe = Pipe(retention={"terminated": 0})
    cancel(pipe)
    looker = Looker(pipe)
    await looker.look_for(SETTLED_SECONDS - 6)
    cancel(pipe)
    await looker.look_for(SETTLED_SECONDS - 6)
    assert pipe.store.get("t1") is not None
    await looker.look_for(20)
    assert pipe.store.get("t1") is None


async def test_more_than_are_remembered_are_found_by_reading_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_REMEMBERED", 2)
    pipe = Pipe(retention={"terminated": 0})
    for number in range(3):
        cancel(pipe, f"t{number}")
    looker = Looker(pipe)
    await looker.look_for(300)
    assert [pipe.store.get(f"t{number}") is None for number in range(3)] == [True, True, False]
    await looker.look_for(400)
    assert pipe.store.get("t2") is None


async def test_a_server_that_is_away_is_no_reason_to_forget_it() -> None:
    pipe = Pipe(retention={"terminated": 0})
    cancel(pipe)
    looker = Looker(pipe)
    await looker.look_for(SETTLED_SECONDS - 6)
    await asyncio.sleep(10)
    pipe.server.go_away()
    with pytest.raises(Unavailable):
        await looker.orphans.look({"Q": pipe.policy}, {"Q": pipe.server.census("Q")})
    pipe.server.come_back()
    await looker.look_for(10)
    assert pipe.store.get("t1") is None


async def test_a_store_where_no_record_vanishes_by_itself_says_so_once() -> None:
    pipe = Pipe(retention={"terminated": 3600 * SECOND})
    pipe.store.allow_ttl = False
    cancel(pipe)
    await Looker(pipe).look_for(300)
    assert [note.where for note in pipe.notes.of(Trouble)] == ["retention of t1"]
