"""A request goes out while the attempt may still begin, or not at all."""

from __future__ import annotations

import asyncio

from pipeline_world import MINUTE, SECOND, SUBJECT, SUCCESS, Pipe

from ajc.exchange import ExecReply
from ajc_bridge.decision.outcome import Busy, NoResponder, TimedOut
from ajc_bridge.pipeline.admit import Admitted, admit_item
from ajc_bridge.pipeline.dispatch import ExecPolicy, dispatch
from ajc_bridge.pipeline.room import Room

PLAIN = ExecPolicy()


async def admitted_by(pipe: Pipe, **fields: object):
    pipe.enqueue(**fields)
    lease = await pipe.lease()
    admitted = await admit_item(pipe.ports, pipe.policy, lease)
    assert isinstance(admitted, Admitted)
    return lease, admitted


async def test_no_request_goes_out_after_the_lease_while_the_server_was_away() -> None:
    pipe = Pipe(max_run_time_ns=10 * MINUTE, lease_ns=30 * SECOND)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    lease, admitted = await admitted_by(pipe)
    pipe.server.line.up = False
    began = pipe.now()
    assert await dispatch(pipe.ports, pipe.policy, PLAIN, lease, admitted, room=Room()) == NoResponder(SUBJECT)
    assert pipe.now() - began < 31 * SECOND
    assert pipe.exchange.requests == []


async def test_a_deadline_that_came_before_the_request_ends_the_attempt_unasked() -> None:
    pipe = Pipe(max_run_time_ns=MINUTE)
    pipe.exchange.answer(SUBJECT, SUCCESS)
    lease, admitted = await admitted_by(pipe, deadline=pipe.now().plus(SECOND))
    await asyncio.sleep(2)  # virtual: a renewal that took its time
    outcome = await dispatch(pipe.ports, pipe.policy, PLAIN, lease, admitted, room=Room())
    assert outcome == TimedOut(0, at_deadline=True)
    assert pipe.exchange.requests == []


async def test_a_busy_answer_is_not_asked_again_once_the_lease_is_lost() -> None:
    pipe = Pipe()
    lease, admitted = await admitted_by(pipe)

    def busy_and_lost(_request: object) -> ExecReply:
        lease.lost = True
        return ExecReply("busy", "full")

    pipe.exchange.answer(SUBJECT, busy_and_lost)
    assert await dispatch(pipe.ports, pipe.policy, PLAIN, lease, admitted, room=Room()) == Busy("full")
    assert len(pipe.exchange.requests) == 1
