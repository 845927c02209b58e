"""Workers: a task each, taken again for the next item; a fault ends one and no other."""

from __future__ import annotations

import asyncio

import pytest

from ajc_bridge.pipeline import workers as room
from ajc_bridge.pipeline.workers import Workers
from ajc_bridge.ports import Lease


def lease(name: str) -> Lease:
    return Lease("Q", name, b"", 1, 0, b"token", until=1e9, received=0.0)


class Work:
    """Notes who did what; each piece ends when its event is set, or at once."""

    def __init__(self) -> None:
        self.done: list[tuple[str, asyncio.Task[None] | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, lease: Lease) -> None:
        await self.gate.wait()
        if lease.subject_id == "bad":
            raise RuntimeError(lease.subject_id)
        self.done.append((lease.subject_id, asyncio.current_task()))


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_worker_takes_the_next_item_when_it_is_done() -> None:
    work = Work()
    workers = Workers(work)
    first = workers.start(lease("a"))
    await settled()
    second = workers.start(lease("b"))
    await settled()
    assert second is first
    assert work.done == [("a", first), ("b", first)]
    workers.stop()
    await asyncio.wait({first}, timeout=5)
    assert first.cancelled()


async def test_items_at_the_same_time_have_a_worker_each_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SPARE", 2)
    work = Work()
    work.gate.clear()
    workers = Workers(work)
    tasks = [workers.start(lease(str(number))) for number in range(5)]
    assert len(set(tasks)) == 5
    work.gate.set()
    await settled()
    assert sorted(name for name, _ in work.done) == list("01234")
    assert sum(task.done() for task in tasks) == 3
    workers.stop()
    await asyncio.wait(tasks, timeout=5)
    assert all(task.done() for task in tasks)


async def test_a_fault_and_a_cancel_end_their_own_worker_alone() -> None:
    work = Work()
    workers = Workers(work)
    bad = workers.start(lease("bad"))
    await settled()
    assert isinstance(bad.exception(), RuntimeError)
    work.gate.clear()
    waits = workers.start(lease("waits"))
    await settled()
    waits.cancel()
    await settled()
    assert waits.cancelled()
    work.gate.set()
    good = workers.start(lease("good"))
    await settled()
    assert work.done == [("good", good)]
    workers.stop()


async def test_who_is_at_work_when_they_are_stopped_ends_with_its_item() -> None:
    work = Work()
    work.gate.clear()
    workers = Workers(work)
    last = workers.start(lease("last"))
    await settled()
    workers.stop()
    assert not last.done()
    work.gate.set()
    await asyncio.wait({last}, timeout=5)
    assert work.done == [("last", last)]
    assert not last.cancelled()
