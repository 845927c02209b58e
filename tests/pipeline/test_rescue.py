"""Tasks that no delivery would bring back: found, and settled by the same decisions as all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from pipeline_world import MINUTE, SECOND, SUBJECT, SUCCESS, Bridge, Pipe, make_task, until

from ajc.errors import Conflict, Unavailable
from ajc.work_item import WorkItem
from ajc_bridge.happenings import Rescued, RevisionConflict, Trouble
from ajc_bridge.pipeline import rescue as rescue_module
from ajc_bridge.pipeline.rescue import (
    AGAIN_SECONDS,
    LONGEST_PAUSE,
    SWEEP_SECONDS,
    ExhaustedItems,
    OrphanedTasks,
    look_again_in,
)
from ajc_bridge.ports import Census, Lease

# --- exhausted ------------------------------------------------------------------------------------------------------


def capped(**policy: Any) -> Pipe:
    """A queue as Go makes them: the server delivers an item once."""
    pipe = Pipe(**policy)
    pipe.source.max_deliver = 1
    return pipe


@asynccontextmanager
async def watching(pipe: Pipe, *, told: bool = True) -> AsyncIterator[ExhaustedItems]:
    policy = replace(pipe.policy, max_deliver=2)
    exhausted = ExhaustedItems(pipe.ports, pipe.server.census("Q"), lambda: policy)
    if told:
        pipe.source.given_up.append(exhausted.given_up)
    running = asyncio.ensure_future(exhausted.run())
    await asyncio.sleep(0.001)
    yield exhausted
    assert not running.done(), "the watch has ended"
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


async def use_up(pipe: Pipe) -> None:
    """Let every item come once, to nobody."""
    got: list[Lease] = []
    await pipe.end.pull(100, 0, got.append)
    await asyncio.sleep(pipe.source.lease_seconds + 0.001)


async def test_what_the_server_gives_up_is_settled_at_once() -> None:
    pipe = capped()
    pipe.enqueue(state="active", tries=1)
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: not pipe.source.items, 1)
    assert (pipe.task().state, pipe.letters) == ("expired", {"t1": "tries"})
    assert pipe.notes.of(Rescued) == [Rescued("Q", "t1", "tries")]
    assert not pipe.line.names("queue.ack")  # nobody leases it


@pytest.mark.parametrize(
    ("state", "end", "letters"),
    [
        ("new", "expired", {"t1": "tries"}),
        ("retry", "expired", {"t1": "tries"}),
        ("complete", "complete", {}),
        ("terminated", "terminated", {"t1": "terminated"}),
    ],
)
async def test_each_state_has_its_end(state: str, end: str, letters: dict[str, str]) -> None:
    pipe = capped()
    pipe.enqueue(state=state, tries=1)
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: not pipe.source.items, 1)
    assert (pipe.task().state, pipe.letters) == (end, letters)


async def test_an_item_without_a_record_and_one_that_cannot_be_read() -> None:
    pipe = capped()
    pipe.source.put("t1")
    pipe.source.put("t2", b"{")
    pipe.source.put("t3", WorkItem("a.b").encode())
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: not pipe.source.items, 1)
    assert pipe.letters == {"t2": "malformed_item", "t3": "malformed_item"}


async def test_a_task_in_an_unknown_state_waits_with_a_fresh_item() -> None:
    pipe = capped()
    pipe.enqueue(state="somewhere")
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: not pipe.source.items, 1)
    assert ("Q", "t1") in pipe.server.delay.waiting
    assert pipe.task().state == "somewhere"


@pytest.mark.parametrize("before", [True, False])
async def test_what_nobody_was_told_of_is_swept_up(before: bool) -> None:
    pipe = capped()
    pipe.enqueue()
    if before:
        await use_up(pipe)
    async with watching(pipe, told=False):
        if not before:
            await use_up(pipe)
        await until(lambda: not pipe.source.items, 1 if before else SWEEP_SECONDS + 1)
    assert pipe.letters == {"t1": "tries"}


async def test_one_that_was_saved_since_the_sweep_is_left_alone() -> None:
    pipe = capped()
    pipe.enqueue()
    await use_up(pipe)
    pipe.line.latency = lambda call: 1.0 if call == "store.load_leader" else 0.0
    async with watching(pipe, told=False):
        await asyncio.sleep(0.5)
        pipe.store.put("t1", pipe.task().replace(state="active", tries=1).encode())
        await asyncio.sleep(5)
        assert pipe.task().state == "active"
        assert pipe.source.items
        assert not pipe.line.names("census.forget")
        await until(lambda: not pipe.source.items, SWEEP_SECONDS)  # it has not moved since
    assert pipe.letters == {"t1": "tries"}


async def test_advisories_that_never_end_do_not_put_off_the_sweep() -> None:
    pipe = capped()
    async with watching(pipe, told=False) as exhausted:
        pipe.enqueue()
        await use_up(pipe)
        for _ in range(8):
            exhausted.given_up(4711)
            await asyncio.sleep(SWEEP_SECONDS / 6)
        assert not pipe.source.items


async def test_an_item_that_is_gone_already() -> None:
    pipe = capped()
    async with watching(pipe) as exhausted:
        exhausted.given_up(4711)
        await asyncio.sleep(1)
    assert not pipe.notes.details


async def test_what_somebody_else_saved_meanwhile_stays_for_the_next_sweep() -> None:
    pipe = capped()
    pipe.enqueue()
    async with watching(pipe):
        pipe.line.fail("store.save", Conflict("task t1"))
        await use_up(pipe)
        await asyncio.sleep(1)
        assert pipe.notes.of(RevisionConflict)
        assert pipe.source.items
        assert not pipe.notes.of(Rescued)
        await until(lambda: not pipe.source.items, SWEEP_SECONDS)


@pytest.mark.parametrize("call", ["census.exhausted", "store.load_leader", "census.forget", "census.stranded"])
@pytest.mark.parametrize("times", [1, 5])
async def test_a_call_that_fails_is_made_up_for_by_the_sweep(call: str, times: int) -> None:
    pipe = capped()
    pipe.enqueue()
    pipe.line.fail(call, times=times)
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: not pipe.source.items, (times + 1) * (SWEEP_SECONDS + 2))
    assert pipe.letters == {"t1": "tries"}


@pytest.mark.parametrize("call", ["store.save", "letters.publish"])
async def test_a_settlement_that_is_hindered_goes_on_as_soon_as_it_can(call: str) -> None:
    pipe = capped()
    pipe.enqueue()
    pipe.line.fail(call, times=5, landed=True)
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: not pipe.source.items, 10)
    assert pipe.server.letters.stored["Q", "t1"].letter.reason == "tries"


async def test_a_fault_with_one_item_leaves_the_others_their_rescue() -> None:
    pipe = capped()
    pipe.enqueue(id="t1")
    pipe.enqueue(id="t2")
    pipe.line.fail("store.load_leader", ValueError("boo"))
    async with watching(pipe):
        await use_up(pipe)
        await until(lambda: len(pipe.source.items) == 1, 1)
        assert pipe.notes.of(Trouble) == [Trouble("rescue of t1", "ValueError: boo")]
        await until(lambda: not pipe.source.items, SWEEP_SECONDS + 1)


# --- orphaned and evicted -------------------------------------------------------------------------------------------


class Looker:
    """`OrphanedTasks`, looking every few seconds as `serving` does."""

    def __init__(self, pipe: Pipe, *, census: Census | None = None) -> None:
        self.pipe = pipe
        self.orphans = OrphanedTasks(pipe.ports, pipe.server.scan())
        self.census = census or pipe.server.census("Q")

    async def look(self) -> int:
        return await self.orphans.look({"Q": self.pipe.policy}, {"Q": self.census})

    async def look_for(self, seconds: float) -> None:
        end = self.pipe.server.clock.monotonic() + seconds
        while self.pipe.server.clock.monotonic() < end:
            await self.look()
            await asyncio.sleep(5)


def orphan(pipe: Pipe, task_id: str = "t1", **fields: Any) -> None:
    pipe.store.put(task_id, make_task(pipe.now(), id=task_id, **fields).encode())


async def test_a_task_whose_producer_died_before_its_item_gets_one() -> None:
    pipe = Pipe()
    orphan(pipe)
    looker = Looker(pipe)
    await looker.look_for(55)
    assert not pipe.source.items  # its item may be on its way
    await looker.look_for(20)
    assert set(pipe.source.items) == {"t1"}
    assert pipe.task().state == "new"
    assert pipe.notes.of(Rescued) == [Rescued("Q", "t1", "requeued")]
    await looker.look_for(200)
    assert len(pipe.notes.of(Rescued)) == 1


async def test_a_task_that_has_its_item_is_left_alone() -> None:
    pipe = Pipe()
    pipe.enqueue(id="t1")
    orphan(pipe, "t2", state="retry", next_try_at=pipe.now().plus(3600 * SECOND))
    await pipe.server.delay.schedule("Q", "t2", pipe.now().plus(3600 * SECOND), WorkItem("t2"))
    await Looker(pipe).look_for(300)
    assert not pipe.notes.of(Rescued)


@pytest.mark.parametrize("state", ["complete", "expired", "terminated", "queue_error", "unreachable"])
async def test_what_is_over_is_left_alone(state: str) -> None:
    pipe = Pipe()
    orphan(pipe, state=state)
    looker = Looker(pipe)
    await looker.look_for(300)
    assert not pipe.notes.details
    assert not looker.orphans._suspects


async def test_what_cannot_be_read_and_what_is_not_ours_is_left_alone() -> None:
    pipe = Pipe()
    pipe.store.put("t1", b"{")
    orphan(pipe, "t2", queue="OTHER")
    orphan(pipe, "t3")
    looker = Looker(pipe)
    await looker.look()
    pipe.store.remove("t3")
    await looker.look_for(300)
    assert not pipe.notes.of(Rescued)
    assert not looker.orphans._suspects


async def test_a_retry_without_an_item_is_scheduled_again() -> None:
    pipe = Pipe()
    due = pipe.now().plus(3600 * SECOND)
    orphan(pipe, state="retry", tries=1, next_try_at=due)
    await Looker(pipe).look_for(100)
    assert pipe.server.delay.waiting["Q", "t1"] == (due, WorkItem("t1"))


async def test_an_evicted_task_ends_with_a_letter() -> None:
    pipe = Pipe(evicts=True)
    orphan(pipe)
    await Looker(pipe).look_for(100)
    assert (pipe.task().state, pipe.letters) == ("queue_error", {"t1": "queue_error"})
    assert pipe.notes.of(Rescued) == [Rescued("Q", "t1", "queue_error")]


async def test_an_attempt_without_an_item_is_given_up_after_two_run_times() -> None:
    pipe = Pipe(max_run_time_ns=5 * MINUTE)
    orphan(pipe, state="active", tries=1, tried=pipe.now())
    looker = Looker(pipe)
    await looker.look_for(600)
    assert pipe.task().state == "active"
    await looker.look_for(200)
    assert pipe.task().state == "retry"
    assert pipe.source.items or pipe.server.delay.waiting


@pytest.mark.parametrize("cancelled", [False, True], ids=["begun", "cancelled"])
async def test_a_task_that_is_saved_while_it_is_looked_at_is_somebody_elses(cancelled: bool) -> None:
    pipe = Pipe(evicts=True)
    orphan(pipe)
    looker = Looker(pipe)
    await looker.look()
    await asyncio.sleep(70)
    pipe.line.latency = lambda call: 1.0 if call == "store.save" else 0.0
    looking = asyncio.ensure_future(looker.look())
    await asyncio.sleep(0.5)
    saved = {"state": "terminated", "cancelled": pipe.now()} if cancelled else {"state": "active", "tries": 1}
    pipe.store.put("t1", pipe.task().replace(**saved).encode())
    await looking
    assert pipe.task().state == saved["state"]
    assert bool(pipe.notes.of(RevisionConflict)) != cancelled, "a cancel is no conflict"
    assert not pipe.notes.of(Rescued)


async def test_a_record_that_vanishes_while_it_is_looked_at() -> None:
    pipe = Pipe()
    orphan(pipe)
    looker = Looker(pipe)
    await looker.look()
    await asyncio.sleep(70)
    pipe.line.latency = lambda call: 1.0 if call == "census.has_item" else 0.0
    looking = asyncio.ensure_future(looker.look())
    await asyncio.sleep(0.5)
    pipe.store.remove("t1")
    await looking
    assert not pipe.notes.of(Rescued)


@pytest.mark.parametrize("call", ["scan.next", "store.load", "store.load_leader", "census.has_item"])
async def test_a_call_that_fails_forgets_nobody(call: str) -> None:
    pipe = Pipe()
    orphan(pipe)
    looker = Looker(pipe)
    pipe.line.fail(call)
    with pytest.raises(Unavailable):
        await looker.look_for(100)
    await looker.look_for(200)
    assert set(pipe.source.items) == {"t1"}


async def test_a_fault_with_one_task_leaves_the_others_their_rescue() -> None:
    pipe = Pipe()
    orphan(pipe, "t1")
    orphan(pipe, "t2")
    pipe.line.fail("store.load", ValueError("boo"))
    looker = Looker(pipe)
    await looker.look_for(70)
    assert pipe.notes.of(Trouble) == [Trouble("rescue of t1", "ValueError: boo")]
    await looker.look_for(70)
    assert set(pipe.source.items) == {"t1", "t2"}


async def test_the_store_is_read_in_parts_to_its_end() -> None:
    pipe = Pipe()
    for number in range(600):
        orphan(pipe, f"t{number}", state="complete")
    looker = Looker(pipe)
    assert [await looker.look() for _ in range(4)] == [256, 256, 88, 0]
    orphan(pipe, "t9", state="complete")
    assert [await looker.look() for _ in range(2)] == [1, 0]


# --- crash-safe -----------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The process is gone."""


@pytest.mark.parametrize(
    ("call", "landed"),
    [("store.save", True), *[(call, landed) for call in ("letters.publish", "delay.forget") for landed in (0, 1)]],
)
async def test_an_end_that_is_cut_off_in_the_middle_is_played_to_its_end_by_an_item(call: str, landed: bool) -> None:
    """Nothing looks at a final state: without an item its dead letter would never be written."""
    pipe = Pipe(evicts=True)
    orphan(pipe)
    looker = Looker(pipe)
    await looker.look()
    await asyncio.sleep(70)
    pipe.line.fail(call, Cut(), landed=landed)
    with pytest.raises(Cut):
        await looker.look()
    pipe.line.heal()
    bridge = Bridge(pipe.server, slots=1, notes=pipe.notes)
    bridge.lane()
    await asyncio.sleep(pipe.source.lease_seconds + 1)
    await bridge.stop()
    await Looker(pipe).look_for(100)
    assert (pipe.task().state, pipe.letters) == ("queue_error", {"t1": "queue_error"})
    assert not pipe.source.items
    assert not pipe.server.delay.waiting


@pytest.mark.parametrize("call", ["delay.schedule", "store.save"])
async def test_an_end_that_is_cut_off_before_its_save_may_still_become_a_run(call: str) -> None:
    pipe = Pipe(evicts=True)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    orphan(pipe)
    looker = Looker(pipe)
    await looker.look()
    await asyncio.sleep(70)
    pipe.line.fail(call, Cut(), landed=call == "delay.schedule")
    with pytest.raises(Cut):
        await looker.look()
    bridge = Bridge(pipe.server, slots=1, notes=pipe.notes)
    bridge.lane()
    await asyncio.sleep(pipe.source.lease_seconds + 1)
    await bridge.stop()
    assert (pipe.task().state, pipe.task().tries, pipe.letters) == ("complete", 1, {})


async def test_an_end_that_was_reached_leaves_no_item() -> None:
    """In a full queue it would push out another task's."""
    pipe = Pipe(evicts=True)
    orphan(pipe)
    await Looker(pipe).look_for(65)
    assert pipe.task().state == "queue_error"
    assert not pipe.server.delay.waiting
    await asyncio.sleep(100)
    assert not pipe.source.items


async def test_an_item_of_promise_in_a_task_that_somebody_took_meanwhile_does_no_harm() -> None:
    pipe = Pipe(evicts=True)
    orphan(pipe)
    looker = Looker(pipe)
    await looker.look()
    await asyncio.sleep(70)
    pipe.line.latency = lambda call: 1.0 if call == "store.save" else 0.0
    looking = asyncio.ensure_future(looker.look())
    await asyncio.sleep(0.5)
    pipe.store.put("t1", pipe.task().replace(state="complete", tries=1).encode())
    await looking
    pipe.line.latency = 0.0
    bridge = Bridge(pipe.server, slots=1, notes=pipe.notes)
    bridge.lane()
    await asyncio.sleep(pipe.source.lease_seconds + 1)
    await bridge.stop()
    assert (pipe.task().state, pipe.letters, pipe.source.items) == ("complete", {}, {})


# --- by age ---------------------------------------------------------------------------------------------------------


async def test_where_items_grow_too_old_a_younger_task_gets_its_item() -> None:
    pipe = Pipe(max_age_ns=MINUTE * 60)
    orphan(pipe)
    await Looker(pipe).look_for(100)
    assert set(pipe.source.items) == {"t1"}
    assert pipe.task().state == "new"


async def test_what_grew_too_old_ends_with_the_true_cause() -> None:
    pipe = Pipe(max_age_ns=MINUTE * 60)
    orphan(pipe)
    await asyncio.sleep(3_600)
    await Looker(pipe).look_for(100)
    assert (pipe.task().state, pipe.task().last_err) == ("queue_error", "older than the queue's max_age of 1h")


# --- how much is remembered, and looked at --------------------------------------------------------------------------


async def test_a_task_that_waits_is_looked_at_with_growing_pauses() -> None:
    pipe = Pipe()
    pipe.enqueue()
    looker = Looker(pipe)
    looks = []
    for _ in range(3):
        pipe.line.calls.clear()
        await looker.look_for(3_600)
        looks.append(len(pipe.line.names("census.has_item")))
    assert looks[0] <= 10
    assert looks[2] == 3_600 / LONGEST_PAUSE
    pipe.source.remove(pipe.source.items["t1"].sequence)
    await looker.look_for(LONGEST_PAUSE + 10)
    assert pipe.source.items  # made again


async def test_a_task_that_moves_is_looked_at_as_a_new_one() -> None:
    pipe = Pipe()
    pipe.enqueue()
    looker = Looker(pipe)
    await looker.look_for(3_600)
    pipe.source.remove(pipe.source.items["t1"].sequence)
    pipe.store.put("t1", pipe.task().replace(last_err="x").encode())
    await looker.look_for(80)
    assert pipe.source.items


async def test_however_many_tasks_wait_the_one_without_an_item_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait would fill what is remembered: the longest known of them go."""
    monkeypatch.setattr(rescue_module, "_REMEMBERED", 100)
    pipe = Pipe()
    for number in range(1_000):
        pipe.enqueue(id=f"t{number}")
    orphan(pipe, "lost")
    looker = Looker(pipe)
    await looker.look_for(600)
    assert len(looker.orphans._suspects) <= 100
    assert pipe.notes.of(Rescued) == [Rescued("Q", "lost", "requeued")]


async def test_what_was_forgotten_is_found_again_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue_module, "_REMEMBERED", 100)
    pipe = Pipe()
    for number in range(1_000):
        pipe.enqueue(id=f"t{number}")
    looker = Looker(pipe)
    await looker.look_for(600)
    assert "t0" not in looker.orphans._suspects
    pipe.source.remove(pipe.source.items["t0"].sequence)
    await looker.look_for(AGAIN_SECONDS + 600)
    assert pipe.notes.of(Rescued) == [Rescued("Q", "t0", "requeued")]


async def test_tasks_of_a_queue_that_is_served_only_later_are_found_in_time() -> None:
    pipe = Pipe()
    orphan(pipe)
    looker = Looker(pipe)
    await asyncio.sleep(70)
    await looker.orphans.look({}, {})
    assert not looker.orphans._suspects
    await looker.look_for(AGAIN_SECONDS + 70)
    assert pipe.notes.of(Rescued) == [Rescued("Q", "t1", "requeued")]


async def test_what_a_rolled_back_store_has_below_what_was_read_is_found_in_time() -> None:
    pipe = Pipe()
    orphan(pipe)
    looker = Looker(pipe)
    looker.orphans._scan._after = 1_000  # type: ignore[attr-defined]  # read before the store lost its last writes
    await looker.look_for(AGAIN_SECONDS + 70)
    assert not pipe.notes.of(Rescued)
    looker.orphans.read_again()
    await looker.look_for(70)
    assert pipe.notes.of(Rescued) == [Rescued("Q", "t1", "requeued")]


async def test_a_store_that_fits_is_read_once() -> None:
    pipe = Pipe()
    pipe.enqueue(id="t1")
    looker = Looker(pipe)
    await looker.look_for(3 * AGAIN_SECONDS)
    assert len(pipe.line.names("store.load")) < 12
    assert pipe.line.names("scan.next")
    assert not looker.orphans._left_out


def test_whatever_the_load_it_is_looked_at_least_once_a_minute() -> None:
    assert look_again_in(256, spare=True) < look_again_in(0, spare=True) < look_again_in(256, spare=False) <= 60
    assert look_again_in(0, spare=False) <= 60


async def test_one_look_is_not_for_ever() -> None:
    pipe = Pipe()
    for number in range(256):
        pipe.enqueue(id=f"t{number}")
    looker = Looker(pipe)
    await looker.look()
    await asyncio.sleep(70)
    pipe.line.calls.clear()
    assert await looker.look() == 64
    assert len(pipe.line.names("store.load")) == 64


async def test_a_queue_whose_server_never_gives_up_believes_nobody_who_says_so() -> None:
    """Anybody may publish on the advisory's subject: the running task must not be ended by it."""
    pipe = Pipe()
    exhausted = ExhaustedItems(pipe.ports, pipe.server.census("Q"), lambda: pipe.policy)
    pipe.enqueue()
    exhausted.given_up(1)
    assert exhausted._given_up.empty()
