"""One attempt: the request to whoever serves the type, and its outcome."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, assert_never

import msgspec

from ajc import subjects
from ajc.errors import NotPermitted, TooLarge, Unavailable
from ajc.exchange import ExecReply, ExecRequest
from ajc.failpoint import ARMED, reach
from ajc.trace_context import valid_context
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
from ajc_bridge.decision.policy import QueuePolicy, TimeBudget, beat_ns, cap
from ajc_bridge.happenings import AttemptEnded, AttemptStarted, ReplyIgnored, RetryAfterIgnored
from ajc_bridge.pipeline.admit import Admitted
from ajc_bridge.pipeline.beating import begin
from ajc_bridge.pipeline.room import HOLD_SECONDS, Room
from ajc_bridge.ports import AttemptSpan, Lease, Ports

REQUESTS_WHILE_BUSY: Final = 3
_NO_TRACE: Final = ("", "")


class ExecPolicy(msgspec.Struct, frozen=True):
    """Where requests go: the subjects' prefix, and whether a type that nobody serves goes to the catch-all.

    `routes` has the prefix of each type whose responders, and whose catch-all, are elsewhere.
    """

    prefix: str = "ajc.exec"
    catchall: bool = False
    routes: dict[str, str] = {}

    def subject(self, task_type: str, *, catchall: bool = False) -> str:
        """Return where this type's requests go. Raises `InvalidName`."""
        prefix = self.routes.get(task_type, self.prefix)
        return subjects.exec_subject(prefix, subjects.CATCHALL if catchall else task_type)


def dispatch(
    ports: Ports, policy: QueuePolicy, exec_policy: ExecPolicy, lease: Lease, admitted: Admitted, *, room: Room
) -> Coroutine[Any, Any, Outcome]:
    """Send the request, wait for its reply within the attempt's time, and return what came of it."""
    active = admitted.attempt.active
    span = ports.tracer.begin(active, lease.queue) if ports.tracer is not None else None
    trace = valid_context(active.traceparent, active.tracestate) if active.traceparent and span is None else _NO_TRACE
    if span is not None:
        trace = (span.traceparent, span.tracestate)
    attempt = _dispatch(ports, policy, exec_policy, lease, admitted, room=room, trace=trace)
    return attempt if span is None else _traced(attempt, span)


async def _traced(attempt: Coroutine[Any, Any, Outcome], span: AttemptSpan) -> Outcome:
    outcome: Outcome | None = None
    try:
        outcome = await attempt
        return outcome
    finally:
        span.end("interrupted", "") if outcome is None else span.end(outcome.word, _text(outcome))


async def _dispatch(
    ports: Ports,
    policy: QueuePolicy,
    exec_policy: ExecPolicy,
    lease: Lease,
    admitted: Admitted,
    *,
    room: Room,
    trace: tuple[str, str],
) -> Outcome:
    active = admitted.attempt.active
    beating = begin(ports, policy, lease, active)
    budget, started, patience = beating.budget, beating.started, beating.until
    request = _request(policy, lease, admitted, budget, trace)
    beaten = beating if request.heartbeat_ms is not None else None
    subject = exec_policy.subject(active.type)
    ports.journal.note(AttemptStarted(lease.queue, active.type, active.id, active.tries))
    asked = 0
    while True:
        if budget.run_ns <= 0:  # the deadline came between the active save and now
            outcome: Outcome = TimedOut(0, at_deadline=True)
            break
        if ARMED:
            reach("dispatch.sent")
        asked += 1
        sent = room.asked(active.type)
        reply, came = None, ""
        try:
            # never after the lease: the item may have been begun elsewhere by then
            reply = await ports.exchange.request(subject, request, beating.until, send_by=lease.until, beaten=beaten)
            if reply is not None and reply.kind == "no_responder" and _is_caught(exec_policy, subject):
                # to the type's room it is one request: that nobody serves the type ends nobody's work
                subject, reply = exec_policy.subject(active.type, catchall=True), None
                reply = await ports.exchange.request(
                    subject, request, beating.until, send_by=lease.until, beaten=beaten
                )
        except TooLarge as error:
            # cannot be: the size was checked before the try was counted, and the server's limit has shrunk since
            outcome, came = Malformed(str(error)), "no_responder"
            break
        except Unavailable as error:
            # it never left, or the server did not let it through, so nobody began
            outcome, came = NoResponder(subject, str(error) if isinstance(error, NotPermitted) else ""), "no_responder"
            break
        finally:
            room.answered(active.type, sent, came if reply is None else reply.kind)
        if reply is None:
            outcome = beating.silent()
            break
        if reply.kind == "busy" and reply.retry_after_ms is None and not lease.lost:
            now = ports.clock.monotonic()
            if asked < REQUESTS_WHILE_BUSY:
                patience = min(beating.until, now + HOLD_SECONDS)
                continue
            if await room.wait(active.type, patience - now, again=asked > REQUESTS_WHILE_BUSY) and not lease.lost:
                continue
        outcome = _outcome(ports, request, reply, exec_policy)
        break
    if ARMED:
        reach("dispatch.replied")
    ended = ports.clock.monotonic()
    ports.journal.note(
        AttemptEnded(
            lease.queue,
            active.type,
            active.id,
            active.tries,
            outcome.word,
            int((started - lease.received) * 1e9),
            int((ended - started) * 1e9),
            _text(outcome),
        )
    )
    return outcome


def _is_caught(exec_policy: ExecPolicy, subject: str) -> bool:
    return exec_policy.catchall and not subject.endswith("." + subjects.CATCHALL)


def _text(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Succeeded) else getattr(outcome, "text", "")


def _request(
    policy: QueuePolicy, lease: Lease, admitted: Admitted, budget: TimeBudget, trace: tuple[str, str]
) -> ExecRequest:
    active = admitted.attempt.active
    beat = beat_ns(policy)
    return ExecRequest(
        task_id=active.id,
        type=active.type,
        queue=lease.queue,
        try_number=active.tries,
        max_tries=cap(active, policy),
        deadline=budget.handler_deadline,
        timeout_ms=budget.handler_ns // 1_000_000,
        heartbeat_ms=beat // 1_000_000 if beat else None,
        traceparent=trace[0] or None,
        tracestate=trace[1] or None,
        body=admitted.body,
    )


def _outcome(ports: Ports, request: ExecRequest, reply: ExecReply, exec_policy: ExecPolicy) -> Outcome:
    if reply.retry_after_bad:
        ports.journal.note(RetryAfterIgnored(request.type, request.task_id))
    match reply.kind:
        case "success":
            return Succeeded(reply.body)
        case "terminate":
            return Terminated(reply.text)
        case "error":
            return Failed(reply.text, reply.retry_after_ms)
        case "busy":
            return Busy(reply.text, reply.retry_after_ms)
        case "malformed":
            ports.journal.note(ReplyIgnored("malformed", request.type, request.task_id))
            return Malformed(reply.text)
        case "no_responder":
            return NoResponder(exec_policy.subject(request.type))
        case _:
            assert_never(reply.kind)
