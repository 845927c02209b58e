"""One queue from end to end: slots, pulls, the four stages, and every way to end."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from pipeline_world import (
    LEASE_SECONDS,
    MINUTE,
    QUEUE,
    SECOND,
    SUBJECT,
    SUCCESS,
    Bridge,
    Pipe,
    assert_at_rest,
    make_task,
    takes,
    until,
)

from ajc.errors import AjcError
from ajc.exchange import ExecReply, ExecRequest
from ajc.work_item import WorkItem
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.happenings import LeaseLost, PullFailed, TaskSettled, Trouble
from ajc_bridge.pipeline.dispatch import ExecPolicy


def started(pipe: Pipe, *, slots: int = 4, **lane: object) -> Bridge:
    bridge = Bridge(pipe.server, slots=slots, notes=pipe.notes)
    bridge.lane(**lane)
    return bridge


def several(pipe: Pipe, count: int) -> list[str]:
    names = [f"t{number}" for number in range(count)]
    for name in names:
        pipe.enqueue(id=name)
    return names


def states(pipe: Pipe, names: list[str]) -> set[str]:
    return {pipe.task(name).state for name in names}


async def ended(bridge: Bridge) -> None:
    """Stopped, at rest, and nothing left behind."""
    await bridge.stop()
    await asyncio.sleep(0.001)
    assert bridge.running == 0
    assert_at_rest(bridge.share)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_goes_through() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, SUCCESS)
    bridge = started(pipe)
    pipe.enqueue()
    await until(lambda: not pipe.source.items)
    task = pipe.task()
    assert (task.state, task.tries) == ("complete", 1)
    assert task.result is not None
    assert task.result.data == b'"done"'
    await ended(bridge)


async def test_an_idle_lane_takes_an_item_as_soon_as_it_comes() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, SUCCESS)
    bridge = started(pipe)
    for _ in range(5):
        await asyncio.sleep(17.3)
        began = pipe.now()
        pipe.enqueue()
        await until(lambda: not pipe.source.items)
        assert pipe.now() - began < 0.05 * SECOND
    await ended(bridge)


async def test_there_are_never_more_attempts_than_slots_and_no_slot_idles() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0))
    names = several(pipe, 40)
    began = pipe.now()
    bridge = started(pipe, slots=4)
    await until(lambda: not pipe.source.items)
    assert pipe.exchange.most_under_way == 4
    assert pipe.source.leased == 0
    assert pipe.now() - began < 11 * SECOND
    assert states(pipe, names) == {"complete"}
    await ended(bridge)


async def test_a_queues_own_limit_holds() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0))
    several(pipe, 10)
    bridge = started(pipe, slots=8, limit=2)
    await until(lambda: not pipe.source.items)
    assert pipe.exchange.most_under_way == 2
    await ended(bridge)


async def test_nothing_is_leased_that_cannot_run() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(100.0))
    several(pipe, 10)
    bridge = started(pipe, slots=3)
    for _ in range(50):
        await asyncio.sleep(1)
        assert pipe.source.leased <= 3
    await until(lambda: not pipe.source.items)
    await ended(bridge)


async def test_a_failing_task_is_tried_to_its_cap() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("error", "broke"))
    bridge = started(pipe)
    pipe.enqueue(max_tries=3)
    await until(lambda: pipe.letters)
    task = pipe.task()
    assert (task.state, task.tries, task.last_err) == ("expired", 3, "broke")
    assert len(pipe.exchange.requests) == 3
    assert pipe.letters == {"t1": "tries"}
    await until(lambda: not pipe.source.items)
    await ended(bridge)


async def test_a_task_that_waits_for_its_retry_holds_no_slot() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("error", "broke"), SUCCESS)
    bridge = started(pipe, slots=1)
    pipe.enqueue(id="t1")
    await until(lambda: pipe.server.delay.waiting)
    began = pipe.now()
    pipe.enqueue(id="t2")
    await until(lambda: pipe.task("t2").state == "complete")
    assert pipe.now() - began < SECOND
    await until(lambda: pipe.task("t1").state == "complete")
    assert pipe.task("t1").tries == 2
    await ended(bridge)


async def test_a_task_without_a_responder_waits_and_counts_nothing() -> None:
    pipe = Pipe()
    bridge = started(pipe)
    pipe.enqueue(max_tries=1)
    await asyncio.sleep(120)
    assert (pipe.task().state, pipe.task().tries) == ("new", 0)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    await until(lambda: pipe.task().state == "complete", 11)
    assert pipe.task().tries == 1
    await ended(bridge)


async def test_a_result_that_does_not_fit_ends_the_task() -> None:
    pipe = Pipe(limit=4096)
    pipe.exchange.answer(SUBJECT, ExecReply("success", body=b"\x00" * 3000))
    bridge = started(pipe)
    pipe.enqueue()
    await until(lambda: not pipe.source.items)
    assert (pipe.task().state, pipe.letters) == ("terminated", {"t1": "result_too_large"})
    assert pipe.task().last_err.startswith("result of 3000 bytes exceeds")
    await ended(bridge)


async def test_a_result_that_just_fits_is_kept() -> None:
    pipe = Pipe(limit=4096)
    pipe.exchange.answer(SUBJECT, ExecReply("success", body=b"\x00" * 2700))
    bridge = started(pipe)
    pipe.enqueue()
    await until(lambda: not pipe.source.items)
    assert pipe.task().state == "complete"
    await ended(bridge)


async def test_an_error_of_any_length_ends_a_task_that_fills_its_store() -> None:
    pipe = Pipe(limit=4096)
    pipe.exchange.answer(SUBJECT, ExecReply("error", "é" * 2048))
    bridge = started(pipe)
    pipe.enqueue(payload=b"x" * 2_300, max_tries=2)
    await until(lambda: pipe.letters)
    assert (pipe.task().state, pipe.task().tries) == ("expired", 2)
    assert pipe.task().last_err.startswith("é")
    assert len(pipe.exchange.requests) == 2
    await ended(bridge)


@pytest.mark.parametrize("call", ["store.load", "store.save", "queue.pull", "queue.renew", "delay.schedule"])
@pytest.mark.parametrize("times", [1, 4])
async def test_a_call_that_fails_delays_and_loses_nothing(call: str, times: int) -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(15.0, ExecReply("error", "broke")), takes(15.0))
    pipe.line.fail(call, times=times)
    bridge = started(pipe)
    pipe.enqueue()
    await until(lambda: pipe.task().state == "complete")
    assert pipe.task().tries == 2
    await until(lambda: not pipe.source.items)
    await ended(bridge)


async def test_a_pull_that_fails_is_told_of_and_repeated_with_pauses() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, SUCCESS)
    pipe.line.fail("queue.pull", times=None)
    bridge = started(pipe)
    await asyncio.sleep(8)
    assert not bridge.lanes[QUEUE].pull_trouble, "its server may have restarted"
    await asyncio.sleep(52)
    assert bridge.lanes[QUEUE].pull_trouble
    bridge.lanes[QUEUE].pulls_anew()
    await asyncio.sleep(5)
    assert not bridge.lanes[QUEUE].pull_trouble, "it is another connection"
    assert 30 <= len(pipe.notes.of(PullFailed)) <= 40
    assert_at_rest(bridge.share)
    pipe.line.heal()
    pipe.enqueue()
    await until(lambda: not pipe.source.items, 3)
    assert not bridge.lanes[QUEUE].pull_trouble
    await ended(bridge)


async def test_a_server_that_goes_away_in_the_middle_and_comes_back() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(2.0))
    names = several(pipe, 12)
    bridge = started(pipe)
    for _ in range(6):
        await asyncio.sleep(1.3)
        pipe.server.go_away()
        await asyncio.sleep(7)
        pipe.server.come_back()
    await until(lambda: states(pipe, names) == {"complete"})
    await until(lambda: not pipe.source.items)
    await ended(bridge)


async def test_a_server_that_is_away_longer_than_a_lease_lets_nobody_be_acknowledged() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(5.0))
    bridge = started(pipe)
    pipe.enqueue()
    await asyncio.sleep(1)
    pipe.server.go_away()
    await asyncio.sleep(2 * LEASE_SECONDS)
    assert pipe.notes.of(LeaseLost)
    pipe.server.come_back()
    await until(lambda: not pipe.source.items)
    assert pipe.task().state == "complete"
    await ended(bridge)


async def test_a_lease_is_renewed_while_the_attempt_runs() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(5 * LEASE_SECONDS))
    bridge = started(pipe)
    pipe.enqueue()
    await until(lambda: not pipe.source.items)
    assert len(pipe.exchange.requests) == 1
    assert pipe.task().tries == 1
    assert not pipe.notes.of(LeaseLost)
    await ended(bridge)


async def test_a_short_lease_is_renewed_before_the_request_goes_out() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, SUCCESS)
    pipe.enqueue()
    pipe.line.fail("store.load", times=12)  # about twenty seconds of pauses
    bridge = started(pipe)
    await until(lambda: not pipe.source.items)
    calls = pipe.line.names("queue.renew", "exchange.request")
    assert calls[0] == "queue.renew"
    assert pipe.task().tries == 1
    await ended(bridge)


async def test_an_attempt_does_not_begin_on_a_lease_that_is_over() -> None:
    """Half of it went by while the record was saved, the rest while it could not be renewed."""
    pipe = Pipe(lease_ns=10 * SECOND)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    bridge = started(pipe)
    pipe.line.fail("queue.renew", times=3)
    pipe.line.latency = lambda call: {"store.save": 6.0, "queue.renew": 5.0}.get(call, 0.0)
    pipe.enqueue()
    await until(lambda: pipe.source.items["t1"].deliveries == 2)
    assert not pipe.exchange.requests
    pipe.line.latency = 0.0
    await until(lambda: not pipe.source.items)
    assert (pipe.task().state, pipe.task().tries, len(pipe.exchange.requests)) == ("complete", 2, 1)
    await ended(bridge)


async def test_an_item_that_is_taken_over_is_settled_by_its_new_owner_alone() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(10.0))
    bridge = started(pipe)
    pipe.enqueue()
    await asyncio.sleep(1)
    theirs = pipe.store.put("t1", pipe.task().replace(state="terminated").encode())
    await asyncio.sleep(20)
    assert pipe.record().revision == theirs
    assert len(pipe.source.items) == 1
    assert not pipe.notes.of(TaskSettled)
    await ended(bridge)


async def test_an_item_that_need_not_run_is_settled() -> None:
    pipe = Pipe()
    bridge = started(pipe)
    pipe.enqueue(id="t1", deadline=pipe.now().plus(-SECOND))
    pipe.enqueue(id="t2", state="complete")
    pipe.source.put("t3")
    await until(lambda: not pipe.source.items)
    assert pipe.letters == {"t1": "deadline"}
    assert not pipe.exchange.requests
    await ended(bridge)


async def test_an_item_whose_lease_ended_while_it_was_admitted_is_left_to_its_next_delivery() -> None:
    pipe = Pipe(lease_ns=5 * SECOND)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    bridge = started(pipe)
    pipe.line.latency = lambda call: 6.0 if call == "store.load" else 0.0
    pipe.enqueue()
    await asyncio.sleep(0.5)
    keepalive = bridge.lanes[QUEUE]._keepalive
    keepalive.policy = replace(keepalive.policy, renews=False)
    await until(lambda: pipe.notes.of(LeaseLost))
    pipe.line.latency = 0.0
    keepalive.policy = replace(keepalive.policy, renews=True)
    await until(lambda: not pipe.source.items)
    assert (pipe.task().state, pipe.task().tries) == ("complete", 1)
    await ended(bridge)


async def test_a_fault_in_one_item_is_told_of_and_leaves_the_others_alone() -> None:
    pipe = Pipe()

    def broken(request: ExecRequest) -> ExecReply:
        if request.task_id == "t3":
            raise ValueError("boo")
        return SUCCESS

    pipe.exchange.answer(SUBJECT, broken)
    names = several(pipe, 6)
    bridge = started(pipe)
    await until(lambda: len(pipe.source.items) == 1)
    assert [name for name in names if pipe.task(name).state != "complete"] == ["t3"]
    assert pipe.notes.of(Trouble)[0] == Trouble("item t3", "ValueError: boo")
    await ended(bridge)


async def test_a_fault_of_the_queue_itself_ends_the_lane() -> None:
    pipe = Pipe()
    pipe.line.fail("queue.pull", AjcError("this cannot be"))
    bridge = started(pipe)
    with pytest.raises(AjcError):
        await bridge.runs[QUEUE]
    await asyncio.sleep(0.001)
    assert_at_rest(bridge.share)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_policy_counts_from_the_next_item_on() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0, ExecReply("error", "broke")))
    bridge = started(pipe)
    pipe.enqueue(id="t1", max_tries=0)
    await asyncio.sleep(0.5)
    lane = bridge.lanes[QUEUE]
    lane.follow(QueuePolicy(queue=QUEUE, lease_ns=10 * SECOND, max_tries=1, renews=False))
    lane.exec_policy = ExecPolicy(prefix="other")
    pipe.exchange.answer("other.kind", ExecReply("error", "broke"))
    pipe.enqueue(id="t2", max_tries=0)
    await until(lambda: "t2" in pipe.letters)
    assert pipe.task("t1").state in {"retry", "active"}
    assert lane._keepalive.policy == lane.policy
    await ended(bridge)


# --- ending ---------------------------------------------------------------------------------------------------------


async def test_stop_lets_what_runs_end_and_takes_nothing_more() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(10.0))
    names = several(pipe, 6)
    bridge = started(pipe, slots=2)
    await asyncio.sleep(1)
    await ended(bridge)
    assert sorted(pipe.task(name).state for name in names) == ["complete"] * 2 + ["new"] * 4
    assert pipe.source.leased == 0


async def test_stop_keeps_leases_alive_until_the_last_attempt_is_over() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(4 * LEASE_SECONDS))
    bridge = started(pipe)
    pipe.enqueue()
    await asyncio.sleep(1)
    await ended(bridge)
    assert (pipe.task().state, pipe.task().tries) == ("complete", 1)


async def test_stop_before_the_start_and_twice() -> None:
    pipe = Pipe()
    bridge = started(pipe)
    several(pipe, 3)
    bridge.lanes[QUEUE].stop()
    bridge.lanes[QUEUE].stop()
    await ended(bridge)
    assert not pipe.exchange.requests
    assert pipe.source.leased == 0


async def test_what_comes_after_the_stop_is_given_back_at_once() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, SUCCESS)
    bridge = started(pipe)
    await asyncio.sleep(1)  # its pull waits
    bridge.lanes[QUEUE].stop()
    pipe.enqueue()
    await asyncio.sleep(0.01)
    assert pipe.line.names("queue.nak") == ["queue.nak"]
    assert (await pipe.lease()).deliveries == 2
    await ended(bridge)


async def test_where_the_server_counts_deliveries_no_item_is_given_back_for_nothing() -> None:
    """With one delivery in all, an item that was given back would never come again."""
    pipe = Pipe()
    pipe.source.max_deliver = 1
    pipe.exchange.answer(SUBJECT, None)
    pipe.enqueue(id="runs")
    bridge = Bridge(pipe.server, slots=10, notes=pipe.notes)
    lane = bridge.lane(max_deliver=1)
    await asyncio.sleep(1)  # its next pull waits
    lane.stop()
    pipe.source.put("late", WorkItem("late", waits=2))
    pipe.store.put("late", make_task(pipe.now(), id="late").encode())
    pipe.source.put("bad", b"{")
    lane.interrupt()
    await ended(bridge)
    assert (pipe.task("runs").state, pipe.task("runs").tries) == ("new", 0)
    assert not pipe.source.exhausted or [item.subject_id for item in pipe.source.exhausted] == ["bad"]
    other = Bridge(pipe.server, slots=10, notes=pipe.notes)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    other.lane(max_deliver=1)
    await until(lambda: states(pipe, ["runs", "late"]) == {"complete"}, 5)
    assert {pipe.task(name).tries for name in ("runs", "late")} == {1}
    await ended(other)


async def test_an_item_that_no_pull_waits_for_takes_a_slot_beyond() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0))
    bridge = started(pipe, slots=1)
    pipe.enqueue(id="t1")
    await asyncio.sleep(0.5)
    pipe.source.put("late", WorkItem("t2"))
    pipe.store.put("t2", make_task(pipe.now(), id="t2").encode())
    bridge.lanes[QUEUE].take(await pipe.lease())
    assert bridge.running == 2
    await until(lambda: pipe.task("t2").state == "complete")
    await ended(bridge)


async def test_interrupt_puts_back_what_waits_for_its_reply_uncounted() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, None)
    names = several(pipe, 3)
    bridge = started(pipe)
    await asyncio.sleep(1)
    for lane in bridge.lanes.values():
        lane.stop()
        lane.interrupt()
        lane.interrupt()
    began = pipe.now()
    await ended(bridge)
    assert pipe.now() - began < SECOND
    for name in names:
        assert (pipe.task(name).state, pipe.task(name).tries, pipe.task(name).last_err) == ("new", 0, "interrupted")
    assert pipe.source.leased == 0
    assert len(pipe.source.items) == 3
    other = started(pipe)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    await until(lambda: states(pipe, names) == {"complete"}, 1)
    await ended(other)


@pytest.mark.parametrize("latency", [0.0, 0.2, 1.0])
async def test_interrupt_at_any_stage_ends_soon_and_counts_what_was_answered(latency: float) -> None:
    for moment in range(20):
        pipe = Pipe()
        pipe.line.latency = latency
        pipe.exchange.answer(SUBJECT, takes(latency))
        pipe.enqueue()
        bridge = started(pipe)
        await asyncio.sleep(moment * (latency or 0.001) / 3)
        bridge.lanes[QUEUE].stop()
        bridge.lanes[QUEUE].interrupt()
        await ended(bridge)
        if pipe.source.leased:  # what was delivered to nobody comes again
            await asyncio.sleep(LEASE_SECONDS)
        task = pipe.task()
        assert (task.state, task.tries, len(pipe.source.items)) in {("new", 0, 1), ("complete", 1, 0)}


async def test_abandon_drops_everything_and_the_items_come_again() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, None)
    names = several(pipe, 3)
    bridge = started(pipe)
    await asyncio.sleep(1)
    bridge.lanes[QUEUE].stop()
    bridge.lanes[QUEUE].abandon()
    await ended(bridge)
    assert states(pipe, names) == {"active"}
    assert not pipe.line.names("queue.ack", "queue.nak")
    pipe.exchange.answer(SUBJECT, SUCCESS)
    other = started(pipe)
    await until(lambda: states(pipe, names) == {"complete"})
    assert {pipe.task(name).tries for name in names} == {2}
    await ended(other)


async def test_abandon_before_an_item_took_its_first_step() -> None:
    pipe = Pipe()
    bridge = started(pipe)
    pipe.enqueue()
    bridge.lanes[QUEUE].take(await pipe.lease())
    bridge.lanes[QUEUE].stop()
    bridge.lanes[QUEUE].abandon()
    await ended(bridge)


async def test_a_run_that_is_cancelled_ends_at_once() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(5.0))
    bridge = started(pipe)
    pipe.enqueue()
    await asyncio.sleep(1)
    bridge.runs[QUEUE].cancel()
    await asyncio.wait(bridge.runs.values())
    assert bridge.runs[QUEUE].cancelled()
    bridge.lanes[QUEUE].abandon()
    await asyncio.sleep(0.01)
    assert_at_rest(bridge.share)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_idle_lanes_with_one_slot_look_in_by_turns() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, SUCCESS)
    pipe.server.add_queue("P", lease_ns=30 * SECOND)
    bridge = started(pipe, slots=1)
    bridge.lane("P")
    await asyncio.sleep(60)
    pulls = [queue for name, queue in pipe.line.calls if name == "queue.pull"]
    assert 200 <= pulls.count("Q") <= 700
    assert 200 <= pulls.count("P") <= 700
    for queue in ("P", "Q"):
        pipe.server.enqueue(make_task(pipe.now(), id=queue, queue=queue))
    await until(lambda: states(pipe, ["P", "Q"]) == {"complete"}, 1)
    await ended(bridge)


async def test_two_lanes_share_slots_and_one_that_is_let_go_leaves_them_to_the_other() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0))
    pipe.server.add_queue("P", lease_ns=30 * SECOND)
    bridge = started(pipe, slots=4)
    bridge.lane("P")
    for number in range(40):
        for queue in ("Q", "P"):
            pipe.server.enqueue(make_task(pipe.now(), id=f"{queue}{number}", queue=queue))
    await asyncio.sleep(5)
    assert {name: lane.running for name, lane in bridge.lanes.items()} == {"Q": 2, "P": 2}
    lane = bridge.lanes.pop("P")
    lane.stop()
    bridge.share.remove("P")
    await asyncio.sleep(3)
    assert (lane.running, bridge.lanes["Q"].running) == (0, 4)
    await bridge.runs.pop("P")
    await ended(bridge)
    assert "P" not in bridge.share._lanes


async def test_a_long_history_leaves_nothing_behind() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    bridge = started(pipe)
    for number in range(300):
        pipe.enqueue(id=f"t{number}")
    await until(lambda: not pipe.source.items)
    lane = bridge.lanes[QUEUE]
    assert not lane._tasks
    assert not lane._dispatching
    assert not lane._keepalive._leases
    assert not lane._keepalive._renewing
    await ended(bridge)
