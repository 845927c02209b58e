"""What the fake has beside the ports: its own values, planned faults, a copy that lags, time that jumps."""

from __future__ import annotations

import asyncio
import time

import pytest

from ajc.errors import Conflict, Unavailable
from ajc.exchange import ExecReply, ExecRequest
from ajc.instant import Instant
from ajc.task import Task
from ajc.testing import MemoryServer, run_virtually
from ajc.testing.memory import MemoryLease, MemoryRecord


def test_time_jumps_and_keeps_its_order() -> None:
    async def scenario() -> list[str]:
        seen: list[str] = []

        async def after(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            seen.append(name)

        await asyncio.gather(after(3600, "an hour"), after(60, "a minute"), after(0, "now"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400):
                await asyncio.Event().wait()
        return seen

    began = time.monotonic()
    assert run_virtually(scenario()) == ["now", "a minute", "an hour"]
    assert time.monotonic() - began < 10


def test_what_another_thread_does_is_waited_for_when_nothing_else_is_left() -> None:
    async def scenario() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: time.sleep(0.05) or 7)

    assert run_virtually(scenario()) == 7


def test_a_server_needs_no_bridge() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        server.add_queue("Q", lease_ns=10**10)
        task = Task.create("kind", {"n": 1}, queue="Q", created=server.clock.now())
        revision = server.enqueue(task)
        got: list[MemoryLease] = []
        end = server.work_queue("Q")
        assert await end.pull(5, 1.0, got.append) == 1
        record = await server.store.load(task.id)
        assert record == MemoryRecord(task.id, task.encode(), revision, server.clock.now(), task)
        end.ack(got[0])
        assert not server.queues["Q"].items
        server.clock.skew_ns = 5
        assert server.clock.now() == Instant(record.stored_at).plus(5)

    run_virtually(scenario())


def test_faults_come_in_the_order_they_were_planned() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        server.line.fail("store.save", times=2)
        server.line.fail("store.save", Conflict("theirs"), landed=True)
        for error in (Unavailable, Unavailable, Conflict):
            assert server.store.get("t") is None
            with pytest.raises(error):
                await server.store.save("t", b"x", 0)
        assert server.store.get("t") is not None
        server.line.fail("store.load", times=None)
        server.line.fail("store.load_leader")
        for _ in range(3):
            with pytest.raises(Unavailable):
                await server.store.load("t")
        server.line.heal("store.load")
        assert await server.store.load("t") is not None
        server.line.heal()
        assert await server.store.load("t", leader=True) is not None
        assert server.line.names("store.save") == ["store.save"] * 3

    run_virtually(scenario())


def test_a_copy_lags_and_the_leader_does_not() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        server.store.put("t", b"1")
        server.store.lagging["t"] = server.store.get("t")
        server.store.put("t", b"2")
        answers = [await server.store.load("t", leader=leader) for leader in (False, True)]
        assert [answer.data for answer in answers if answer is not None] == [b"1", b"2"]

    run_virtually(scenario())


def test_scripts_are_played_in_order_and_the_last_one_stays() -> None:
    async def scenario() -> None:
        server = MemoryServer()

        async def later(request: ExecRequest) -> ExecReply:
            await asyncio.sleep(2)
            return ExecReply("success", body=request.body)

        server.exchange.answer("s", ExecReply("busy", "full"), None, later)
        request = ExecRequest(
            task_id="t",
            type="k",
            queue="Q",
            try_number=1,
            max_tries=1,
            deadline=server.clock.now(),
            timeout_ms=1,
            body=b"b",
        )
        replies = [await server.exchange.request("s", request, server.clock.monotonic() + 10) for _ in range(4)]
        assert replies == [ExecReply("busy", "full"), None, *[ExecReply("success", body=b"b")] * 2]
        server.exchange.answer("s")
        assert await server.exchange.request("s", request, server.clock.monotonic() + 1) == ExecReply("no_responder")
        assert server.exchange.most_under_way == 1

    run_virtually(scenario())
