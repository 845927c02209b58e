"""What `doctor` looks at. Each finding has a verdict (`good`, `note`, `wrong`), what it is about, and the mend."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

from ajc.connection import Connection
from ajc.duration import format_duration
from ajc.errors import AjcError, MalformedInstant, NoResponders, NotFound, NotPermitted, RequestTimeout, StoreError
from ajc.instant import Instant
from ajc.queue import QueueInfo
from ajc.subjects import (
    CONSUMER,
    DELAY_STREAM,
    DLQ_STREAM,
    EXEC_PREFIX,
    TASKS_STREAM,
    delay_schedule_subject,
    dlq_subject,
    exec_subject,
    is_queue,
    queue_stream,
    task_subject,
)
from ajc.topology import list_queues, read_queue
from ajc_bridge.cli.queue_look import due, own_policies, unknown_policy
from ajc_bridge.jetstream.served_types import served_types
from ajc_bridge.mends import ENABLE_JETSTREAM

OLDEST: Final = (2, 12)
ADVISED: Final = (2, 14)
PROBE: Final = "ajc-doctor"
PROBE_SECONDS: Final = 2.0
MUCH: Final = 0.9
CLOCK_NS: Final = 1_000_000_000
SHORT_LEASE_NS: Final = 1_000_000_000
"""A pause of a machine, or of its network, is easily as long as what is shorter."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    verdict: Literal["good", "note", "wrong"]
    subject: str
    text: str
    mend: str = ""


async def examine(connection: Connection) -> list[Finding]:
    """Look at everything; read only. Raises `Unavailable` when the connection is lost meanwhile."""
    findings = [_version(str(connection.server_version))]
    try:
        account = await connection.api("INFO")
    except NotPermitted as error:
        mend = "give this user the right to publish to $JS.API.INFO: a bridge does not need it"
        findings.append(Finding("note", "JetStream", str(error), mend))
    except (NoResponders, RequestTimeout, StoreError) as error:
        return [*findings, Finding("wrong", "JetStream", str(error), ENABLE_JETSTREAM)]
    else:
        findings += _account(account)
    findings += await _stores(connection)
    findings += await _queues(connection)
    findings += await _rights(connection)
    findings += await _responders(connection)
    return findings


def _version(text: str) -> Finding:
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        return Finding("note", "server", f"its version is {text!r}, which says nothing")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        return Finding(
            "wrong",
            "server",
            f"is {found[0]}: it has no scheduled messages",
            "retries need 2.12; install 2.14 or later",
        )
    if version < ADVISED:
        return Finding("note", "server", f"is {found[0]}", "2.14 or later sources one work queue into another reliably")
    return Finding("good", "server", f"is {found[0]}")


def _account(account: dict[str, Any]) -> Iterator[Finding]:
    limits = account.get("limits") or {}
    full = [
        f"{used / limit:.0%} of the {what}"
        for what, used, limit in (
            ("storage", account.get("storage", 0), limits.get("max_storage", -1)),
            ("memory", account.get("memory", 0), limits.get("max_memory", -1)),
            ("streams", account.get("streams", 0), limits.get("max_streams", -1)),
        )
        if limit > 0 and used > limit * MUCH
    ]
    if full:
        yield Finding(
            "wrong",
            "JetStream",
            f"this account has used {', '.join(full)}",
            "raise the account's limits, or set [retention]",
        )
    else:
        yield Finding("good", "JetStream", f"is there, with {account.get('streams', 0)} streams")


async def _stores(connection: Connection) -> list[Finding]:
    findings: list[Finding] = []
    for name, what in ((TASKS_STREAM, "task store"), (DELAY_STREAM, "delay stream"), (DLQ_STREAM, "dead letters")):
        stream = await _stream(connection, name, what, findings)
        if stream is None:
            continue
        config = stream["config"]
        if what == "task store":
            findings += _clock(stream)
            if not config.get("allow_direct"):
                findings.append(
                    Finding("note", what, "has no direct reads, which are faster", "`ajc-bridge run` switches them on")
                )
        if what == "delay stream" and not config.get("allow_msg_schedules"):
            mend = f"remove the stream {DELAY_STREAM} while nothing waits in it; `ajc-bridge run` makes it anew"
            findings.append(Finding("wrong", what, "takes no schedules: retries do not come back", mend))
            continue
        findings.append(
            Finding(
                "good", what, f"{stream['state'].get('messages', 0)} messages, {config.get('num_replicas', 1)} replicas"
            )
        )
    return findings


async def _stream(connection: Connection, name: str, what: str, findings: list[Finding]) -> dict[str, Any] | None:
    try:
        return await connection.api(f"STREAM.INFO.{name}")
    except NotFound:
        findings.append(Finding("note", what, f"there is no stream {name} yet", "`ajc-bridge run` makes it"))
    except (RequestTimeout, NotPermitted):
        text = f"no answer about {name}"
        findings.append(
            Finding("wrong", what, text, f"give this user the right to publish to $JS.API.STREAM.INFO.{name}")
        )
    except (StoreError, NoResponders) as error:
        findings.append(Finding("wrong", what, str(error), "is its stream's leader there? see `nats stream report`"))
    return None


def _clock(stream: dict[str, Any]) -> Iterator[Finding]:
    try:
        off = Instant.now() - Instant.parse(stream.get("ts") or "")
    except MalformedInstant:
        return
    if abs(off) > CLOCK_NS:
        text = f"this machine's is {abs(off) / 1e9:.1f} s {'ahead of' if off > 0 else 'behind'} the server's"
        yield Finding("note", "clock", text, "let both follow NTP: deadlines are compared with clocks")


async def _queues(connection: Connection) -> list[Finding]:
    findings: list[Finding] = []
    try:
        names = await list_queues(connection)
    except AjcError as error:
        mend = "give this user the right to publish to $JS.API.STREAM.NAMES"
        return [Finding("wrong", "queues", str(error), mend)]
    if not names:
        return [Finding("note", "queues", "there is none yet", "make one: ajc-bridge queue add NAME")]
    policies = own_policies()
    for name in names:
        if not is_queue(name):
            text = "its name is none of [A-Za-z0-9_-]{1,128}: signed fields could shift, so no bridge serves it"
            findings.append(Finding("wrong", f"queue {name}", text, "move its tasks to another queue"))
            continue
        try:
            info = await read_queue(connection, name)
            consumer = await connection.api(f"CONSUMER.INFO.{queue_stream(name)}.{CONSUMER}")
        except AjcError as error:
            findings.append(
                Finding("wrong", f"queue {name}", str(error), f"`ajc-bridge queue add {name}` makes what is missing")
            )
        else:
            held_up = await due(connection, name) if _nearly_full(info) else 0
            findings += _queue(info, int(consumer.get("num_waiting") or 0), policies, held_up)
    return findings


def _nearly_full(info: QueueInfo) -> bool:
    return info.max_entries > 0 and info.messages > info.max_entries * MUCH


def _queue(info: QueueInfo, pulls: int, policies: Iterable[str], held_up: int) -> Iterator[Finding]:
    name = f"queue {info.name}"
    before = True
    if not info.delayed_items:
        yield Finding(
            "wrong", name, "its retries do not come back", "`ajc-bridge run` adds the delay stream as its source"
        )
        before = False
    if info.stranded:
        text = f"{info.stranded} items reached max deliver ({info.max_deliver}) and are never delivered again"
        yield Finding("wrong", name, text, "a running bridge finds and settles them; is one running?")
        before = False
    if _nearly_full(info):
        text = f"holds {info.messages} of {info.max_entries} entries; then {info.when_full}"
        text += f"; {held_up} retries or parked items that are due wait for room" if held_up else ""
        yield Finding("note", name, text, "more bridges or responders, or a larger max_entries")
        before = False
    policy = unknown_policy(info.backoff, policies)
    if policy:
        yield Finding(
            "note", name, policy, f"add [backoff.{info.backoff}] to every bridge's file, or name another policy"
        )
        before = False
    if info.lease_ns < SHORT_LEASE_NS:
        text = (
            f"its lease is {format_duration(info.lease_ns)}: a bridge that is held up so long has its tasks run twice"
        )
        mend = f'give it more: lease = "30s" below [queues.{info.name}] in the bridge\'s file'
        yield Finding("note", name, text, mend)
        before = False
    if info.paused:
        yield Finding("note", name, "is paused")
    elif pulls == 0 and info.ack_pending == 0:
        mend = "is a bridge running? `ajc-bridge run`; or the bridge's configuration does not name this queue"
        yield Finding("note", name, f"nobody takes tasks from it; {info.pending} wait", mend)
        before = False
    if before:
        yield Finding("good", name, f"{info.pending} wait, {info.ack_pending} run")


async def _rights(connection: Connection) -> list[Finding]:
    """Try what a bridge publishes, so that nothing comes of it: the streams refuse it for another stream's name."""
    refused = b"NATS/1.0\r\nNats-Expected-Stream: AJC_DOCTOR\r\n\r\n"
    writes = {
        "save tasks": task_subject(PROBE),
        "put tasks off": delay_schedule_subject(PROBE, PROBE),
        "write dead letters": dlq_subject(PROBE, PROBE),
    }

    async def write(what: str, subject: str) -> Finding | None:
        try:
            await connection.stored(subject, b"", headers=refused, timeout=PROBE_SECONDS)
        except (RequestTimeout, NotPermitted):
            mend = f"a bridge needs the right to publish to {subject.replace(PROBE, '*')}"
            return Finding("note", "rights", f"this user may not {what}", mend)
        except AjcError:
            return None  # refused by the stream, or there is no such stream: the right is there
        return None

    async def request() -> Finding | None:
        try:
            await connection.request(exec_subject(EXEC_PREFIX, PROBE), timeout=PROBE_SECONDS)
        except (RequestTimeout, NotPermitted):
            text = f"no answer on {EXEC_PREFIX}.*: this user may not ask responders, or something else listens there"
            return Finding("note", "rights", text, f"a bridge needs the right to publish to {EXEC_PREFIX}.*")
        except AjcError:
            return None
        return None

    tried = await asyncio.gather(request(), *(write(what, subject) for what, subject in writes.items()))
    found = [finding for finding in tried if finding is not None]
    return found or [Finding("good", "rights", "this user may do what a bridge does")]


async def _responders(connection: Connection) -> list[Finding]:
    """Ask all NATS services (ADR-32) what they serve, and look for types that a bridge asked for in vain."""
    overview = await served_types(connection)
    served = [one for one in overview.types if one.instances]
    found = [Finding("good", "responders", f"{one.type}: {one.instances}") for one in served]
    if not served:
        text = "none says what it serves (one without discovery may still be there)"
        found.append(Finding("note", "responders", text))
    for one in overview.types:
        if one.served == "no":  # a bridge asked, and nobody was there: no responder without discovery either
            text = f"nobody served the type {one.type} when a bridge asked last, and tasks of it wait"
            mend = "start a responder for it, or is the type misspelt? `ajc-bridge handlers ls` shows all types"
            found.append(Finding("note", "responders", text, mend))
    if overview.unseen:
        text = f"waiting tasks were not looked at for types that nobody serves: {overview.unseen}"
        found.append(Finding("note", "responders", text, "look again, or with a --context whose user may look"))
    elif not overview.whole:
        text = f"of the waiting tasks {overview.looked_at} were looked at for types that nobody serves"
        found.append(Finding("note", "responders", text))
    return found
