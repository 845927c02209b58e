"""One attempt's request, and the outcome of each kind of reply."""

from __future__ import annotations

import asyncio

import pytest
from pipeline_world import MINUTE, SECOND, SUBJECT, SUCCESS, Pipe, takes

from ajc.errors import NotPermitted, TooLarge
from ajc.exchange import ExecReply, ExecRequest
from ajc_bridge.decision.outcome import (
    Busy,
    Failed,
    Malformed,
    NoResponder,
    Outcome,
    Succeeded,
    Terminated,
    TimedOut,
)
from ajc_bridge.happenings import AttemptEnded, AttemptStarted, ReplyIgnored, RetryAfterIgnored
from ajc_bridge.pipeline.admit import Admitted, admit_item
from ajc_bridge.pipeline.dispatch import REQUESTS_WHILE_BUSY, ExecPolicy, dispatch
from ajc_bridge.pipeline.room import SEARCH_REQUESTS, Room

PLAIN = ExecPolicy()
CATCHING = ExecPolicy(catchall=True)
CATCHALL = "ajc.exec.catchall"


async def attempt(pipe: Pipe, policy: ExecPolicy = PLAIN, **fields: object) -> Outcome:
    pipe.enqueue(**fields)
    lease = await pipe.lease()
    admitted = await admit_item(pipe.ports, pipe.policy, lease)
    assert isinstance(admitted, Admitted)
    return await dispatch(pipe.ports, pipe.policy, policy, lease, admitted, room=Room())


async def test_the_request_says_what_a_handler_needs() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE, max_tries=2)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    assert await attempt(pipe) == Succeeded(b'"done"')
    ((subject, request),) = pipe.exchange.requests
    assert subject == SUBJECT
    assert request.heartbeat_subject is not None
    assert request == ExecRequest(
        task_id="t1",
        type="kind",
        queue="Q",
        try_number=1,
        max_tries=2,
        deadline=pipe.now().plus(58 * SECOND),
        timeout_ms=58_000,
        heartbeat_subject=request.heartbeat_subject,
        heartbeat_ms=20_000,
        body=pipe.record().data,
    )


async def test_the_tasks_own_deadline_makes_the_time_shorter() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    pipe.exchange.answer(SUBJECT, None)
    began = pipe.now()
    outcome = await attempt(pipe, deadline=pipe.now().plus(10 * SECOND))
    assert outcome == TimedOut(9 * SECOND, at_deadline=True)
    assert 9 * SECOND < pipe.now() - began < 10 * SECOND


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (ExecReply("success", body=b""), Succeeded(b"")),
        (ExecReply("success", body=b"\x00"), Succeeded(b"\x00")),
        (ExecReply("terminate", "no"), Terminated("no")),
        (ExecReply("error", "broke"), Failed("broke")),
        (ExecReply("error", "broke", 1500), Failed("broke", 1500)),
        (ExecReply("busy", "full", 1500), Busy("full", 1500)),
        (ExecReply("malformed", "no header block"), Malformed("no header block")),
        (ExecReply("no_responder"), NoResponder(SUBJECT)),
    ],
)
async def test_each_reply_has_its_outcome(reply: ExecReply, outcome: Outcome) -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, reply)
    assert await attempt(pipe) == outcome
    assert len(pipe.exchange.requests) == 1


async def test_silence_is_a_time_out_half_a_margin_after_the_handlers_end() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    pipe.exchange.answer(SUBJECT, None)
    began = pipe.now()
    assert await attempt(pipe) == TimedOut(58 * SECOND)
    assert abs(pipe.now() - began - 59 * SECOND) < SECOND // 100


@pytest.mark.rule("EXEC-39")
async def test_a_busy_responder_is_asked_again_at_once_three_times_in_all_then_room_is_searched_for() -> None:
    """EXEC-39: the type's budget of searches is used up, nothing of the type is under way, so the task is parked."""
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("busy", "full"))
    began = pipe.now()
    assert await attempt(pipe) == Busy("full")
    assert len(pipe.exchange.requests) == REQUESTS_WHILE_BUSY + SEARCH_REQUESTS
    assert pipe.now() - began < SECOND


async def test_another_responder_may_be_free() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("busy", "full"), ExecReply("busy", "full"), SUCCESS)
    assert await attempt(pipe) == Succeeded(b'"done"')


async def test_a_busy_responder_that_says_when_is_believed() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("busy", "full"), ExecReply("busy", "full", 500))
    assert await attempt(pipe) == Busy("full", 500)
    assert len(pipe.exchange.requests) == 2


async def test_without_a_catchall_nobody_else_is_asked() -> None:
    pipe = Pipe()
    pipe.exchange.answer(CATCHALL, SUCCESS)
    assert await attempt(pipe) == NoResponder(SUBJECT)


@pytest.mark.rule("EXEC-40")
async def test_the_catchall_gets_what_nobody_serves() -> None:
    pipe = Pipe()
    pipe.exchange.answer(CATCHALL, ExecReply("busy"), ExecReply("busy"), SUCCESS)
    assert await attempt(pipe, CATCHING) == Succeeded(b'"done"')
    assert [subject for subject, _ in pipe.exchange.requests] == [SUBJECT, CATCHALL, CATCHALL, CATCHALL]


async def test_the_catchall_is_not_asked_for_what_is_served() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("error", "broke"))
    pipe.exchange.answer(CATCHALL, SUCCESS)
    assert await attempt(pipe, CATCHING) == Failed("broke")


async def test_nobody_at_the_catchall_either() -> None:
    assert await attempt(Pipe(), CATCHING) == NoResponder(SUBJECT)


async def test_another_prefix() -> None:
    pipe = Pipe()
    pipe.exchange.answer("work.here.kind", SUCCESS)
    assert await attempt(pipe, ExecPolicy(prefix="work.here")) == Succeeded(b'"done"')


async def test_a_request_that_never_left_was_begun_by_nobody() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    pipe.line.fail("exchange.request")
    assert await attempt(pipe) == NoResponder(SUBJECT)


async def test_a_request_that_was_not_let_through_was_begun_by_nobody_and_says_why() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    error = NotPermitted(SUBJECT)

    async def refuse(_request: ExecRequest) -> ExecReply:
        raise error

    pipe.exchange.answer(SUBJECT, refuse)
    pipe.exchange.answer(CATCHALL, SUCCESS)
    assert await attempt(pipe, CATCHING) == NoResponder(SUBJECT, str(error))


async def test_a_server_that_comes_back_in_time() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    pipe.enqueue()
    lease = await pipe.lease()
    admitted = await admit_item(pipe.ports, pipe.policy, lease)
    assert isinstance(admitted, Admitted)
    pipe.server.go_away()
    dispatching = asyncio.ensure_future(dispatch(pipe.ports, pipe.policy, PLAIN, lease, admitted, room=Room()))
    await asyncio.sleep(20)
    pipe.server.come_back()
    assert await dispatching == Succeeded(b'"done"')


async def test_a_server_whose_limit_has_shrunk() -> None:
    pipe = Pipe()
    pipe.line.fail("exchange.request", TooLarge("message", 9, 5))
    pipe.exchange.answer(SUBJECT, SUCCESS)
    outcome = await attempt(pipe)
    assert isinstance(outcome, Malformed)
    assert "exceeds 5" in outcome.text


async def test_what_is_told_of_an_attempt() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(2.0, ExecReply("error", "broke", retry_after_bad=True)))
    await attempt(pipe, tries=1, state="retry")
    assert pipe.notes.of(AttemptStarted) == [AttemptStarted("Q", "kind", "t1", 2)]
    (ended,) = pipe.notes.of(AttemptEnded)
    assert (ended.queue, ended.type, ended.task_id, ended.try_number) == ("Q", "kind", "t1", 2)
    assert (ended.outcome, ended.text, ended.dispatch_ns) == ("failed", "broke", 0)
    assert abs(ended.handler_ns - 2 * SECOND) < SECOND // 1000
    assert pipe.notes.of(RetryAfterIgnored) == [RetryAfterIgnored("kind", "t1")]


async def test_a_malformed_reply_is_told_of() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, ExecReply("malformed", "what"))
    await attempt(pipe)
    assert pipe.notes.of(ReplyIgnored) == [ReplyIgnored("malformed", "kind", "t1")]


async def test_an_attempt_that_is_cancelled_ends() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, None)
    asking = asyncio.ensure_future(attempt(pipe))
    await asyncio.sleep(5)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert pipe.exchange.under_way == 0
