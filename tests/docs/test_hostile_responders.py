"""Responders and eavesdroppers that mean harm, on a server that enforces the documented permissions: they cannot.

A real bridge in its documented role, and others on the same server. Where a permission is what prevents something, the
same is tried by a user without limits, for whom it must work: else the test would show nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bridge_process import BridgeProcess, until

import ajc
from ajc.connection import Connection, Message
from ajc.context import resolve
from ajc.exchange import reply_headers
from ajc.headers import parse_headers

rule = pytest.mark.rule
CONFIG = """
[bridge]
create = false
[queues.EMAIL]
max_tries = 2
"""
SECONDS = 20.0
USERS = {
    "other": 'publish = ["ajc.beat.*.*"], subscribe = ["ajc.exec.other ajc", "ajc.cancel.*", "$SRV.>"], '
    'allow_responses = { max: 1, expires: "15m" }',
    "tap": 'publish = { deny: [">"] }, subscribe = ["ajc.exec.>"]',
    "anybody": "",
}


@pytest.fixture
def more_users() -> dict[str, str]:
    return USERS


@pytest.fixture
def bridge(roles: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    """A bridge in its documented role, serving the queue EMAIL."""

    async def make_queue() -> None:
        async with ajc.connect(context="admin") as client:
            await client.ensure_queue(ajc.Queue("EMAIL", max_tries=2, max_run_time=12, backoff="1h"))

    asyncio.run(make_queue())
    running = BridgeProcess(tmp_path / "bridge", "", CONFIG, nats='context = "bridge"').start()
    running.wait_ready()
    yield running
    running.stop()


class Peer:
    """One user's connection, and what it has heard."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard: list[Message] = []

    async def listen(self, subject: str, group: str = "") -> Peer:
        await self.connection.subscribe(subject, self.heard.append, queue=group)
        await self.connection.flush()
        return self

    async def asked(self, count: int = 1) -> Message:
        await until(lambda: len(self.heard) >= count, SECONDS, lambda: f"{len(self.heard)} messages of {count}")
        return self.heard[count - 1]

    async def say(self, subject: str, body: bytes = b"", headers: bytes | None = None) -> None:
        self.connection.publish(subject, body, headers=headers)
        await self.connection.flush()


@asynccontextmanager
async def peer(role: str) -> AsyncIterator[Peer]:
    connection = await Connection.open(resolve(context=role))
    try:
        yield Peer(connection)
    finally:
        await connection.close()


def refused(log: str, subject: str) -> bool:
    return f'Publish Violation - Subject "{subject}"' in Path(log).read_text()


async def enqueue(kind: str = "email:new", **more: object) -> ajc.Task:
    async with ajc.connect(context="enqueuer") as client:
        return await client.enqueue(kind, "x", queue="EMAIL", deadline=120, **more)


async def ended(task: ajc.Task) -> ajc.Task:
    async with ajc.connect(context="enqueuer") as client:
        try:
            return await client.result(task.id, timeout=SECONDS)
        except ajc.TaskFailed as failure:
            return failure.task


def header(message: Message, name: str) -> str:
    assert message.headers is not None
    found = parse_headers(message.headers).get(name)
    assert found is not None, f"no {name}"
    return found


@rule("EXEC-1")
@rule("EXEC-2")
@rule("EXEC-23")
async def test_with_its_documented_rights_a_responder_serves_beats_hears_cancels_and_is_discovered(
    roles: str, bridge: BridgeProcess
) -> None:
    async with peer("responder") as responder, peer("admin") as admin:
        await responder.listen("ajc.exec.email:new", "ajc")
        cancels = await Peer(responder.connection).listen("ajc.cancel.*")
        services = await Peer(responder.connection).listen("$SRV.PING")
        task = await enqueue()
        request = await responder.asked()
        await responder.say(header(request, "AJ-Heartbeat-Subject"), b'{"percent": 50}')
        taken = "ajc_bridge_heartbeats_total"
        await until(lambda: bridge.metric(taken, kind="taken") == 1, SECONDS, "no heartbeat was taken")
        await admin.say(f"ajc.cancel.{task.id}", b"a test")
        assert (await cancels.asked()).body == b"a test"
        asking = asyncio.ensure_future(admin.connection.request("$SRV.PING", b"", timeout=SECONDS))
        await responder.say((await services.asked()).reply, b'{"name": "letters"}')
        assert (await asking).body == b'{"name": "letters"}'
        await responder.say(request.reply, b"done")
        done = await ended(task)  # the cancel message alone cancelled nothing
        assert (done.state, done.tries) == ("complete", 1)
    assert "Violation" not in Path(roles).read_text()


@rule("EXEC-37")
async def test_nobody_answers_for_another_even_where_the_inbox_is_known(roles: str, bridge: BridgeProcess) -> None:
    async with peer("responder") as responder, peer("other") as other:
        await responder.listen("ajc.exec.email:new", "ajc")
        await other.listen("ajc.exec.other", "ajc")
        task = await enqueue()
        request = await responder.asked()
        await other.say(request.reply, b"forged")  # told by treason: it was never asked
        assert refused(roles, request.reply)
        await responder.say(request.reply, b"mine")
        done = await ended(task)
        assert done.result is not None
        assert (done.state, done.result.data) == ("complete", b"mine")
        # what it may answer, it does
        second = await enqueue("other")
        await other.say((await other.asked()).reply, b"its own")
        assert (await ended(second)).state == "complete"


@rule("EXEC-37")
@pytest.mark.parametrize(("user", "wins"), [("tap", False), ("anybody", True)])
async def test_an_eavesdropper_is_not_the_first_to_answer(
    roles: str, bridge: BridgeProcess, user: str, wins: bool
) -> None:
    async with peer("responder") as responder, peer(user) as eavesdropper:
        await eavesdropper.listen("ajc.exec.>")
        await responder.listen("ajc.exec.email:new", "ajc")
        task = await enqueue()
        overheard = await eavesdropper.asked()
        await eavesdropper.say(overheard.reply, b"", reply_headers(terminate="forged"))
        assert refused(roles, overheard.reply) != wins
        await responder.say((await responder.asked()).reply, b"the real one")
        done = await ended(task)
        assert (done.state, done.last_err) == (("terminated", "forged") if wins else ("complete", ""))


@rule("EXEC-37")
async def test_an_eavesdropper_hears_no_answers_and_beats_for_nobody(roles: str, bridge: BridgeProcess) -> None:
    async with peer("responder") as responder, peer("tap") as tap:
        await tap.listen("ajc.exec.>")
        for subject in ("_INBOX_bridge.>", "_INBOX_bridge.exec.*.*", "ajc.beat.>", "ajc.cancel.*"):
            await tap.listen(subject)
            assert f'Subscription Violation - Subject "{subject}"' in Path(roles).read_text()
        await responder.listen("ajc.exec.email:new", "ajc")
        task = await enqueue()
        beat = header(await tap.asked(), "AJ-Heartbeat-Subject")
        await tap.say(beat, b'{"percent": 99}')
        assert refused(roles, beat)
        await responder.say((await responder.asked()).reply, b"secret")
        assert (await ended(task)).state == "complete"
        assert [message.subject for message in tap.heard] == ["ajc.exec.email:new"]
        assert bridge.metric("ajc_bridge_heartbeats_total") == 0


def hostile(*lines: str | bytes, body: bytes = b"") -> tuple[bytes, bytes]:
    joined = b"\r\n".join([b"NATS/1.0", *(line.encode() if isinstance(line, str) else line for line in lines)])
    return body, joined + b"\r\n\r\n"


async def settled(bridge: BridgeProcess, task: ajc.Task) -> str:
    """Wait for the bridge to say that it saved the task a second time, `active` being the first, and in which state."""
    return str((await bridge.log("task.saved", task_id=task.id, count=2))["state"])


REPLIES = [
    (hostile("AJ-Error: " + "e" * 900_000), "retry"),
    (hostile(*(f"X-{number}: {number}" for number in range(20_000)), "AJ-Error: last"), "retry"),
    (hostile(b"AJ-Error: \xff\xfe\x00\x1b]0;owned\x07" + b"\x80" * 9_000), "retry"),
    (hostile("AJ-Terminate: " + "\u202e\u2028\x85\x9b31m" * 2_000), "terminated"),
    (hostile("AJ-Error: x", "AJ-Retry-After-Ms: " + "9" * 500_000), "retry"),
    (hostile("Nats-Rollup: all", "Nats-Expected-Last-Subject-Sequence: 0", "Nats-TTL: 1s", body=b"r"), "complete"),
    (hostile("Status: 503", "Description: No Responders", body=b"r"), "complete"),
    (hostile(": no name"), "retry"),
    ((b"", b"\x00" * 50_000), "retry"),
    ((b"\x00" * 200_000, b"NATS/1.0\r\n\r\n"), "complete"),
    ((bytes(range(256)) * 3_500, b"NATS/1.0\r\n\r\n"), "terminated"),  # does not fit into the store as base64
]


@rule("EXEC-17")
@rule("EXEC-18")
@rule("EXEC-37")
async def test_a_hostile_responder_harms_nobody_but_its_own_tasks(roles: str, bridge: BridgeProcess) -> None:
    async with peer("responder") as villain, peer("other") as honest:
        await villain.listen("ajc.exec.email:new", "ajc")
        await honest.listen("ajc.exec.other", "ajc")
        for number, ((body, block), state) in enumerate(REPLIES, 1):
            task = await enqueue()
            request = await villain.asked(number)
            await villain.say(request.reply, body, block)
            await villain.say(request.reply, b"and again", reply_headers(terminate="again"))
            assert refused(roles, request.reply), "the second reply was let through"
            inbox, _, token = request.reply.rpartition(".")
            for guess in (f"{inbox}.0", f"{inbox}.{token}0", f"{inbox}.{token[::-1]}", "_INBOX_bridge.api.1"):
                await villain.say(guess, b"guess", reply_headers(terminate="guess"))
                assert refused(roles, guess)
            await villain.say(f"ajc.beat.{'0' * 16}.{'f' * 16}", b'{"percent": 1e999}')
            await villain.say(header(request, "AJ-Heartbeat-Subject"), b"[" * 100_000)  # it is over
            assert await settled(bridge, task) == state, block[:60]
            async with ajc.connect(context="enqueuer") as client:
                found = await client.load(task.id)
            assert len(found.last_err.encode()) <= 4096
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", found.last_err)
        good = await enqueue("other")
        await honest.say((await honest.asked()).reply, b"fine")
        assert (await ended(good)).state == "complete"
        assert bridge.running
        assert bridge.metric("ajc_bridge_replies_total", kind="duplicate") == 0  # the server let none through
        assert bridge.metric("ajc_bridge_heartbeats_total", kind="over") >= len(REPLIES)
