"""EXEC-29 and EXEC-31 to EXEC-33: cancel, discovery, traces."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ajc.subjects import RESPONDER_GROUP, cancel_subject, exec_subject
from ajc_bridge.conform.ask import Ask
from ajc_bridge.conform.checks.check import Checks, together
from ajc_bridge.conform.player import Exchange, Player
from ajc_bridge.conform.verdict import Broken
from ajc_bridge.conform.words import reply_words, shown

CHECKS: Final = Checks()
TASKS: Final = ("echo", "fail", "crash", "terminate", "busy", "later", "about", "slow", "progress", "trace")
_WORK_MS: Final = 3_500
_BEAT_MS: Final = 200
_STOP_SECONDS: Final = 1.0 + 0.7  # the rule's second, and what a busy machine adds
_REASON: Final = "conform wants it so"
_QUIET_SECONDS: Final = 0.4
_SERVICES_SECONDS: Final = 3.0
_COUNTED_SECONDS: Final = 3.0
# the grammar of semver.org, without its lengths
_semver = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
).fullmatch


@CHECKS.of("EXEC-29")
async def cancelled_work_stops(player: Player) -> str | None:
    """Cancel one of two attempts: that one stops within a second, the other does not."""
    ask = Ask(task="slow", payload=b"%d" % _WORK_MS, beat_ms=_BEAT_MS)
    other, cancelled = await asyncio.gather(player.begun(ask), player.begun(ask))
    now = asyncio.get_running_loop().time()
    player.connection.publish(cancel_subject(cancelled.sent.task_id), _REASON.encode())
    await player.until(cancelled.at + _WORK_MS / 1000 + 1.0)
    await other.replied(1.0)
    if other.reply is None or other.reply.kind != "success":
        raise other.broken("a result: another task was cancelled, not this one")
    late = [beat for beat in cancelled.beats if beat.at > now + _STOP_SECONDS]
    expected = "no heartbeat, and no result, from a second after the cancel message on"
    if cancelled.reply is not None and (cancelled.reply.kind == "success" or cancelled.reply.at > now + _STOP_SECONDS):
        raise cancelled.broken(expected)
    if late:
        raise cancelled.broken(expected, f"{len(late)} heartbeats after that")
    return _should_say(cancelled)


def _should_say(cancelled: Exchange) -> str | None:
    reply = cancelled.reply
    if reply is not None and reply.kind == "terminate" and f"cancelled: {_REASON}" in reply.read.text:
        return None
    return f"it should answer AJ-Terminate: cancelled: {_REASON}; seen: {reply_words(cancelled, reply)}"


@CHECKS.of("EXEC-31")
async def services_say_what_they_serve(player: Player) -> str | None:
    """Find each of the family's types as an endpoint of a service, with its metadata."""
    await together(*(_pinged(player, verb) for verb in ("PING", "STATS")))
    services = await _services(player, "INFO")
    sent = "a request on $SRV.INFO"
    for task in TASKS:
        subject = exec_subject(player.prefix, player.kind(task))
        found = [(service, one) for service in services for one in _endpoints(service) if one.get("subject") == subject]
        if not found:
            raise Broken(sent, f"an endpoint with the subject {subject}", f"none among {len(services)} services")
        for service, endpoint in found:
            _check_endpoint(sent, player.kind(task), service, endpoint)
    return None


def _check_endpoint(sent: str, kind: str, service: Mapping[str, Any], endpoint: Mapping[str, Any]) -> None:
    metadata = endpoint.get("metadata")
    told = metadata if isinstance(metadata, dict) else {}
    where = f"of {kind}"
    if told.get("ajc.type") != kind or told.get("ajc.protocol") != "1":
        raise Broken(sent, f"metadata {where}: ajc.type {kind}, ajc.protocol 1", shown(str(told), 200))
    if not re.fullmatch(r"[0-9]{1,9}", str(told.get("ajc.concurrency"))) or not int(told["ajc.concurrency"]):
        raise Broken(sent, f"metadata {where}: ajc.concurrency, a decimal number from 1", shown(str(told), 200))
    if endpoint.get("queue_group") != RESPONDER_GROUP:
        raise Broken(sent, f"queue group {RESPONDER_GROUP} {where}", shown(str(endpoint.get("queue_group"))))
    version = str(service.get("version"))
    if _semver(version) is None:
        raise Broken(sent, "a version by semantic versioning, like 1.2.3", shown(version))


async def _pinged(player: Player, verb: str) -> None:
    if not await _services(player, verb):
        raise Broken(f"a request on $SRV.{verb}", "an answer from each service", "none")


@CHECKS.of("EXEC-32", "alone")
async def services_count(player: Player) -> str | None:
    """Send some requests of each kind of outcome, and look at the counts before and after."""
    plan = {"echo": (3, 0), "fail": (2, 2), "crash": (1, 1), "terminate": (2, 2), "busy": (2, 0)}
    before = await _counts(player, plan)
    asked_before = dict(player.asked)
    for task, (count, _) in plan.items():
        for _ in range(count):
            await player.answered(Ask(task=task, payload=b"counted"), busy=task == "busy")
    sent = "requests: " + ", ".join(f"{count} of {player.kind(task)}" for task, (count, _) in plan.items())
    wanted = {
        # a responder that was busy was asked more often; whether refused work counts as a request is left open
        task: ((player.asked[task] - asked_before.get(task, 0)) if task != "busy" else None, errors)
        for task, (_, errors) in plan.items()
    }
    limit = asyncio.get_running_loop().time() + _COUNTED_SECONDS  # some count after they have answered
    while True:
        after = await _counts(player, plan)
        wrong = [task for task in plan if not _counted(before.get(task), after.get(task), wanted[task])]
        if not wrong:
            return None
        if asyncio.get_running_loop().time() > limit:
            break
    task = wrong[0]
    requests, errors = wanted[task]
    more = _more(before.get(task), after.get(task))
    raise Broken(
        sent,
        f"{player.kind(task)}: {errors} errors more in $SRV.STATS"
        + ("" if requests is None else f", {requests} requests"),
        "no endpoint of this type" if more is None else f"{more[1]} errors more, {more[0]} requests",
    )


def _counted(before: tuple[int, int] | None, after: tuple[int, int] | None, wanted: tuple[int | None, int]) -> bool:
    more = _more(before, after)
    return more is not None and more[1] == wanted[1] and wanted[0] in (None, more[0])


def _more(before: tuple[int, int] | None, after: tuple[int, int] | None) -> tuple[int, int] | None:
    return None if before is None or after is None else (after[0] - before[0], after[1] - before[1])


async def _counts(player: Player, tasks: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return requests and errors so far of each task's endpoints, all services together."""
    found: dict[str, tuple[int, int]] = {}
    subjects = {exec_subject(player.prefix, player.kind(task)): task for task in tasks}
    for service in await _services(player, "STATS"):
        for endpoint in _endpoints(service):
            task = subjects.get(str(endpoint.get("subject")))
            requests, errors = endpoint.get("num_requests"), endpoint.get("num_errors")
            if task is not None and isinstance(requests, int) and isinstance(errors, int):
                so_far = found.get(task, (0, 0))
                found[task] = (so_far[0] + requests, so_far[1] + errors)
    return found


@CHECKS.of("EXEC-33")
async def traces_reach_the_handler(player: Player) -> str | None:
    """Send a trace context, and none."""
    given = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    for traceparent in (given, None):
        about = f"traceparent {traceparent}" if traceparent else "without traceparent"
        ask = Ask(task="trace", traceparent=traceparent, tracestate="conform=1" if traceparent else None, about=about)
        exchange = await player.answered(ask)
        reply = exchange.reply
        assert reply is not None
        if reply.kind != "success" or reply.body.decode("utf-8", "replace") != (traceparent or ""):
            raise exchange.broken(f"the result {shown(traceparent or '')}")
    return None


async def _services(player: Player, verb: str) -> list[dict[str, Any]]:
    """Ask all services, and return their answers once no further ones come."""
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    inbox = f"{player.connection.inbox_prefix}.{secrets.token_hex(8)}"
    subscription = await player.connection.subscribe_raw(inbox, lambda _s, _r, body, _h: answers.put_nowait(body))
    found: list[dict[str, Any]] = []
    try:
        player.connection.publish(f"$SRV.{verb}", reply=inbox)
        wait = _SERVICES_SECONDS
        while True:
            body = await asyncio.wait_for(answers.get(), wait)
            if not body:
                return found  # the server's 503: there is no service at all
            wait = _QUIET_SECONDS
            try:
                said = msgspec.json.decode(body)
            except msgspec.DecodeError:
                continue
            if isinstance(said, dict) and not (set(said) <= {"error"}):
                found.append(said)
    except TimeoutError:
        return found
    finally:
        await subscription.unsubscribe()


def _endpoints(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = service.get("endpoints")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
