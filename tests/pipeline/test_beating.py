"""Heartbeats: more time for an attempt that lives, and an early end for one whose responder is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pipeline_world import QUEUE, SECOND, SUBJECT, SUCCESS, Bridge, Notes, Pipe, assert_at_rest, until

from ajc.exchange import ExecReply, ExecRequest
from ajc_bridge.decision.outcome import NoHeartbeat, Outcome, Succeeded, TimedOut
from ajc_bridge.happenings import AttemptBeaten, BeatIgnored, LeaseLost
from ajc_bridge.pipeline.admit import Admitted, admit_item
from ajc_bridge.pipeline.dispatch import ExecPolicy, dispatch
from ajc_bridge.pipeline.room import Room

RUN = 10 * SECOND
BEAT = 10 / 3


def beats(
    pipe: Pipe, times: int, every: float = BEAT, *, body: bytes = b"", reply: ExecReply | None = SUCCESS
) -> Callable[[ExecRequest], Awaitable[ExecReply | None]]:
    """A responder that beats so often and then replies, or is gone (None)."""

    async def respond(request: ExecRequest) -> ExecReply | None:
        for _ in range(times):
            await asyncio.sleep(every)
            pipe.exchange.beat(request, body)
        return reply

    return respond


async def attempt(pipe: Pipe, **fields: object) -> Outcome:
    pipe.enqueue(**fields)
    lease = await pipe.lease()
    admitted = await admit_item(pipe.ports, pipe.policy, lease)
    assert isinstance(admitted, Admitted)
    return await dispatch(pipe.ports, pipe.policy, ExecPolicy(), lease, admitted, room=Room())


@pytest.mark.rule("EXEC-26")
async def test_a_job_of_five_minutes_on_a_run_time_of_ten_seconds_takes_one_try() -> None:
    pipe = Pipe(lease_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 100, 3.0))
    pipe.enqueue()
    bridge = Bridge(pipe.server, slots=1)
    bridge.lane(max_run_time_ns=RUN)
    began = pipe.now()
    await until(lambda: pipe.task().state == "complete")
    assert 300 * SECOND <= pipe.now() - began < 302 * SECOND
    assert pipe.task().tries == 1
    assert len(pipe.exchange.requests) == 1
    assert len(pipe.line.names("queue.renew")) >= 300 / 10
    assert bridge.notes.of(LeaseLost) == []
    assert len(bridge.notes.of(AttemptBeaten)) == 100
    await until(lambda: not pipe.source.items)
    await bridge.stop()
    assert_at_rest(bridge.share)


@pytest.mark.rule("EXEC-28")
async def test_a_responder_that_is_gone_after_beating_is_found_after_three_missed_beats() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 7, 3.0, reply=None))
    began = pipe.now()
    outcome = await attempt(pipe)
    assert outcome == NoHeartbeat(RUN)
    assert abs(pipe.now() - began - 31 * SECOND) < SECOND // 100


async def test_one_that_never_beat_has_the_time_it_always_had() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, None)
    began = pipe.now()
    assert await attempt(pipe) == TimedOut(9 * SECOND)
    assert abs(pipe.now() - began - 9_500_000_000) < SECOND // 100


@pytest.mark.rule("EXEC-26")
async def test_beats_give_no_time_past_the_tasks_own_deadline() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 100, 3.0))
    began = pipe.now()
    outcome = await attempt(pipe, deadline=began.plus(25 * SECOND))
    assert isinstance(outcome, TimedOut)
    assert outcome.at_deadline
    assert 24 * SECOND < outcome.waited_ns < 25 * SECOND
    assert 24 * SECOND < pipe.now() - began < 25 * SECOND


@pytest.mark.rule("EXEC-27")
async def test_progress_is_told_with_the_beat() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    body = b'{"percent": 12.5, "message": "half\\u0007 of a quarter", "more": [1]}'
    pipe.exchange.answer(SUBJECT, beats(pipe, 1, body=body))
    assert await attempt(pipe) == Succeeded(b'"done"')
    assert pipe.notes.of(AttemptBeaten) == [AttemptBeaten("Q", "kind", "t1", 1, 12.5, "half of a quarter")]


@pytest.mark.rule("EXEC-27")
@pytest.mark.parametrize("body", [b"{", b'{"percent": 101}', b"\xff", b"x" * 1_000_000])
async def test_junk_is_a_sign_of_life_and_no_progress(body: bytes) -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 10, body=body))
    assert await attempt(pipe) == Succeeded(b'"done"')
    assert pipe.notes.of(BeatIgnored) == [BeatIgnored("malformed", "kind", "t1")] * 10
    assert pipe.notes.of(AttemptBeaten) == []


@pytest.mark.rule("EXEC-27")
async def test_beats_after_the_reply_change_nothing() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    assert await attempt(pipe) == Succeeded(b'"done"')
    ((_, request),) = pipe.exchange.requests
    pipe.exchange.beat(request)
    assert pipe.exchange.ignored == 1
    assert pipe.notes.of(AttemptBeaten) == []


async def test_a_lost_lease_is_not_made_good_by_beats() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 100, 1.0))
    pipe.enqueue()
    lease = await pipe.lease()
    admitted = await admit_item(pipe.ports, pipe.policy, lease)
    assert isinstance(admitted, Admitted)
    began = pipe.now()
    going = asyncio.ensure_future(dispatch(pipe.ports, pipe.policy, ExecPolicy(), lease, admitted, room=Room()))
    await asyncio.sleep(20.5)
    lease.lost = True
    assert isinstance(await going, NoHeartbeat)
    assert 29 * SECOND < pipe.now() - began < 31 * SECOND


async def test_a_queue_that_is_not_renewed_offers_no_beats() -> None:
    pipe = Pipe(max_run_time_ns=RUN, renews=False)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    await attempt(pipe)
    ((_, request),) = pipe.exchange.requests
    assert (request.heartbeat_subject, request.heartbeat_ms) == (None, None)


async def test_one_that_is_busy_after_all_leaves_the_others_their_time() -> None:
    pipe = Pipe(max_run_time_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 4, 3.0, reply=ExecReply("busy", "full")), SUCCESS)
    assert await attempt(pipe) == Succeeded(b'"done"')
    subjects = {request.heartbeat_subject for _, request in pipe.exchange.requests}
    assert len(subjects) == 2


async def test_an_attempt_that_beats_is_interrupted_like_any_other() -> None:
    pipe = Pipe(lease_ns=RUN)
    pipe.exchange.answer(SUBJECT, beats(pipe, 1_000, 1.0))
    pipe.enqueue()
    bridge = Bridge(pipe.server, slots=1, notes=Notes())
    lane = bridge.lane(max_run_time_ns=RUN)
    await until(lambda: len(bridge.notes.of(AttemptBeaten)) > 20)
    lane.stop()
    lane.interrupt()
    await bridge.runs[QUEUE]
    assert (pipe.task().state, pipe.task().tries, pipe.task().last_err) == ("new", 0, "interrupted")
    assert_at_rest(bridge.share)
