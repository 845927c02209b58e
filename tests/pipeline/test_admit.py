"""From a leased item to an attempt that may run, or to the answer that takes its place."""

from __future__ import annotations

import asyncio

import pytest
from pipeline_world import MINUTE, SECOND, Pipe, make_task

from ajc.errors import Conflict, TooLarge
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.policy import time_budget
from ajc_bridge.decision.settlement import Attempt
from ajc_bridge.happenings import ItemDropped, ItemWaits, RevisionConflict, TaskSaved, UnknownState
from ajc_bridge.pipeline.admit import REQUEST_HEADER_ROOM, Admitted, Settled, admit_item, make_arrival
from ajc_bridge.pipeline.dispatch import _request
from ajc_bridge.ports import Lease


async def admitted(pipe: Pipe, lease: Lease | None = None) -> Admitted:
    answer = await admit_item(pipe.ports, pipe.policy, lease or await pipe.lease())
    assert isinstance(answer, Admitted)
    return answer


async def settled(pipe: Pipe, lease: Lease | None = None) -> Settled:
    answer = await admit_item(pipe.ports, pipe.policy, lease or await pipe.lease())
    assert isinstance(answer, Settled)
    return answer


async def test_a_new_task_is_saved_active_before_it_runs() -> None:
    pipe = Pipe()
    task = pipe.enqueue(last_err="before")
    answer = await admitted(pipe)
    saved = pipe.task()
    assert (saved.state, saved.tries, saved.tried, saved.last_err) == ("active", 1, pipe.now(), "")
    assert answer == Admitted(Attempt(task, saved), pipe.record().revision, pipe.record().data)
    assert pipe.notes.of(TaskSaved) == [TaskSaved(saved, "Q", answer.revision)]
    assert pipe.line.names("store.load", "store.load_leader", "store.save") == ["store.load", "store.save"]


async def test_the_items_waits_come_along() -> None:
    pipe = Pipe()
    pipe.server.enqueue(make_task(pipe.now()), item=WorkItem("t1", waits=4))
    assert (await admitted(pipe)).attempt.waits == 4


async def test_no_record_is_asked_of_the_leader_too() -> None:
    pipe = Pipe()
    pipe.source.put("t1")
    answer = await settled(pipe)
    assert (answer.task_id, answer.transition.reason, answer.revision) == ("t1", "no_record", 0)
    assert pipe.line.names("store.load", "store.load_leader") == ["store.load", "store.load_leader"]
    assert pipe.notes.of(ItemDropped) == [ItemDropped("Q", "t1", "no_record")]


async def test_a_copy_that_has_no_record_yet_is_not_believed() -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.store.lagging["t1"] = None
    await admitted(pipe)


async def test_a_copy_with_an_older_revision_is_not_believed() -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.store.lagging["t1"] = pipe.store.get("t1")
    pipe.store.put("t1", pipe.task().replace(tries=1, state="retry").encode())
    assert (await admitted(pipe)).attempt.active.tries == 2
    assert pipe.line.names("store.save") == ["store.save", "store.save"]


@pytest.mark.parametrize("older", ["terminated", "expired", "complete", "blocked", "somewhere"])
async def test_a_copy_that_says_it_is_over_is_not_believed(older: str) -> None:
    """A task that was retried by hand: its item must not be acknowledged by what it was before."""
    pipe = Pipe()
    pipe.enqueue(state=older, tries=1)
    pipe.store.lagging["t1"] = pipe.store.get("t1")
    pipe.store.put("t1", pipe.task().replace(state="new", tries=0).encode())
    assert (await admitted(pipe)).attempt.active.tries == 1


async def test_a_copy_that_cannot_be_read_is_not_believed() -> None:
    pipe = Pipe()
    pipe.store.put("t1", b"{")
    pipe.store.lagging["t1"] = pipe.store.get("t1")
    pipe.enqueue()
    await admitted(pipe)


async def test_somebody_else_owns_it() -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.line.fail("store.save", Conflict("task t1"), times=2)
    assert await admit_item(pipe.ports, pipe.policy, await pipe.lease()) is None
    assert pipe.notes.of(RevisionConflict) == [RevisionConflict("Q", "t1")]
    assert pipe.task().state == "new"


async def test_a_conflict_is_decided_anew_by_the_leaders_word() -> None:
    pipe = Pipe()
    pipe.enqueue()
    lease = await pipe.lease()
    pipe.line.fail("store.save", Conflict("task t1"))
    pipe.store.lagging["t1"] = pipe.store.get("t1")
    pipe.store.put("t1", pipe.task().replace(state="terminated").encode())
    assert (await settled(pipe, lease)).transition.reason == "resettled"


@pytest.mark.parametrize("times", [1, 2, 30])
async def test_a_load_that_fails_is_repeated(times: int) -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.line.fail("store.load", times=times)
    await admitted(pipe)


@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_save_that_fails_or_whose_answer_is_lost_counts_once(times: int, landed: bool) -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.line.fail("store.save", times=times, landed=landed)
    answer = await admitted(pipe)
    assert (pipe.task().tries, answer.revision) == (1, pipe.record().revision)


@pytest.mark.parametrize("call", ["store.load", "store.save"])
async def test_it_waits_for_the_store_until_it_is_cancelled(call: str) -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.line.fail(call, times=None)
    admitting = asyncio.ensure_future(admit_item(pipe.ports, pipe.policy, await pipe.lease()))
    await asyncio.sleep(1_000)
    assert not admitting.done()
    admitting.cancel()
    await asyncio.wait({admitting})
    assert admitting.cancelled()
    assert pipe.task().state == "new"


async def test_a_lease_that_ran_out_while_the_record_was_loaded_is_no_longer_ours() -> None:
    pipe = Pipe()
    pipe.enqueue()
    lease = await pipe.lease()
    pipe.line.latency = 1.0
    admitting = asyncio.ensure_future(admit_item(pipe.ports, pipe.policy, lease))
    await asyncio.sleep(0.5)
    lease.lost = True
    assert await admitting is None
    assert pipe.task().state == "new"


@pytest.mark.parametrize("body", [b"", b"{", b'{"job":""}', b'{"kind":0}', b"\xff"])
async def test_an_item_that_cannot_be_read_is_refused_without_a_look_at_the_store(body: bytes) -> None:
    pipe = Pipe()
    pipe.source.put("t1", body)
    answer = await settled(pipe)
    assert answer.task_id == "t1"
    assert answer.transition.dead_letter is not None
    assert (answer.transition.dead_letter.reason, answer.transition.dead_letter.body) == ("malformed_item", body)
    assert not pipe.line.names("store.load", "store.load_leader")


async def test_an_item_that_names_no_legal_id_is_refused() -> None:
    pipe = Pipe()
    pipe.source.put("t1", WorkItem("a.*.>").encode())
    answer = await settled(pipe)
    assert (answer.task_id, answer.transition.reason) == ("t1", "malformed_item")
    assert not pipe.line.names("store.load", "store.load_leader")


async def test_an_unknown_state_waits_and_is_told_of() -> None:
    pipe = Pipe()
    pipe.enqueue(state="somewhere")
    answer = await settled(pipe)
    assert answer.transition.reason == "unknown_state"
    assert pipe.notes.of(UnknownState) == [UnknownState("Q", "t1", "somewhere")]
    assert pipe.notes.of(ItemWaits) == [ItemWaits("Q", "t1", "unknown_state", "somewhere", 1)]


async def test_what_somebody_else_runs_waits() -> None:
    pipe = Pipe()
    pipe.enqueue(state="active", tries=1)
    assert (await settled(pipe)).transition.reason == "leased"
    assert [note.state for note in pipe.notes.of(ItemWaits)] == ["active"]


async def test_an_abandoned_attempt_runs_again() -> None:
    pipe = Pipe()
    pipe.enqueue(state="active", tries=1)
    await pipe.lease()
    await asyncio.sleep(31)
    answer = await admitted(pipe)
    assert (answer.attempt.before.state, answer.attempt.active.tries) == ("active", 2)


async def test_a_task_past_its_deadline_is_settled_by_its_revision() -> None:
    pipe = Pipe()
    pipe.enqueue(deadline=pipe.now().plus(-SECOND))
    answer = await settled(pipe)
    assert answer.transition.task is not None
    assert (answer.transition.task.state, answer.revision) == ("expired", pipe.record().revision)
    assert pipe.line.names("store.load", "store.load_leader") == ["store.load"]


def sized(pipe: Pipe, size: int) -> Task:
    """A task whose active record has exactly that many bytes."""
    active = {"state": "active", "tries": 1, "tried": pipe.now().plus(123_456_789)}
    small = len(make_task(pipe.now(), payload=b"", last_err="").replace(**active).encode())
    for room in range(size - small + 30):
        task = make_task(pipe.now(), payload=b"", last_err="", extra={"x": b'"' + b"a" * room + b'"'})
        if len(task.replace(**active).encode()) == size:
            return task
    raise AssertionError(size)


async def test_the_largest_task_that_can_be_saved_and_sent() -> None:
    pipe = Pipe(limit=4096)
    limit = 4096 - REQUEST_HEADER_ROOM - len("t1") - 2 * len("kind") - len("Q")
    await asyncio.sleep(0.123456789)
    pipe.server.enqueue(sized(pipe, limit), queue="Q")
    answer = await admitted(pipe)
    budget = time_budget(answer.attempt.active, pipe.policy, pipe.now())
    request = _request(pipe.policy, Lease("Q", "t1", b"", 1, 0, b"", 0, 0), answer, budget, ("", ""))
    assert len(request.headers()) + len(request.body) <= pipe.exchange.limit


async def test_a_trace_context_has_its_room_beside_the_largest_task() -> None:
    pipe = Pipe(limit=4096)
    trace = ("00-" + "4" * 32 + "-" + "2" * 16 + "-01", "a=" + "x" * 250)
    for payload in range(1_500, 2_500, 3):
        task_id = f"t{payload}"
        task = make_task(pipe.now(), id=task_id, payload=b"x" * payload, traceparent=trace[0], tracestate=trace[1])
        pipe.server.enqueue(task, queue="Q")
        answer = await admit_item(pipe.ports, pipe.policy, await pipe.lease())
        if not isinstance(answer, Admitted):
            break
        budget = time_budget(answer.attempt.active, pipe.policy, pipe.now())
        request = _request(pipe.policy, Lease("Q", task_id, b"", 1, 0, b"", 0, 0), answer, budget, trace)
        assert len(request.headers()) + len(request.body) <= pipe.exchange.limit
    assert isinstance(answer, Settled)
    assert answer.transition.reason == "task_too_large"


async def test_a_task_that_cannot_be_saved_and_sent_counts_no_try() -> None:
    pipe = Pipe(limit=4096)
    pipe.enqueue(payload=b"x" * 3_300)
    answer = await settled(pipe)
    assert answer.transition.reason == "task_too_large"
    assert pipe.task().tries == 0
    assert not pipe.line.names("store.save")


async def test_a_store_that_takes_less_than_it_said() -> None:
    pipe = Pipe()
    pipe.enqueue()
    pipe.line.fail("store.save", TooLarge("record", 0, 60))
    answer = await settled(pipe)
    assert answer.transition.reason == "task_too_large"
    assert answer.transition.dead_letter is not None


async def test_an_arrival_says_what_came() -> None:
    pipe = Pipe()
    pipe.enqueue()
    lease = await pipe.lease()
    arrival = make_arrival(lease, exhausted=True)
    assert (arrival.queue, arrival.subject_id, arrival.item, arrival.item_bytes, arrival.deliveries) == (
        "Q",
        "t1",
        WorkItem("t1"),
        lease.body,
        1,
    )
    assert arrival.exhausted


async def test_a_retry_that_is_not_due_is_scheduled_again() -> None:
    pipe = Pipe()
    pipe.enqueue(state="retry", tries=1, next_try_at=pipe.now().plus(MINUTE))
    answer = await settled(pipe)
    assert answer.transition.schedule is not None
    assert answer.transition.schedule.at == pipe.now().plus(MINUTE)
