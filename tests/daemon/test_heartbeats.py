"""Heartbeats and progress through a whole bridge, with responders that live, that are killed, and that send junk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from outside import SECOND, World, world_of
from scripted_responder import Request, Responder, done, failed

import ajc
from ajc.instant import Instant

row = pytest.mark.row
CONFIG = """
[queues.BEAT]
lease = "2s"
max_run_time = "3s"
max_concurrent = -1
backoff = "quick"
[backoff.quick]
steps = ["300ms"]
jitter = 0
"""
BEATING = """
import asyncio, sys, nats

async def main():
    nc = await nats.connect(sys.argv[1])
    async def answer(request):
        every = int(request.headers["AJ-Heartbeat-Ms"]) / 1e3
        while True:
            await nc.publish(request.headers["AJ-Heartbeat-Subject"], b"")
            await nc.flush()
            print("beat", flush=True)
            await asyncio.sleep(every)
    await nc.subscribe("ajc.exec." + sys.argv[2], "ajc", cb=answer)
    await nc.flush()
    print("serving", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
"""A responder of a stranger, which only ever beats."""


@asynccontextmanager
async def beating(world: World, responder: Responder, body: bytes = b"", every: float = 0.5) -> AsyncIterator[Request]:
    """Beat for the last request as long as the block runs."""
    request = responder.last

    async def beat() -> None:
        while True:
            world.connection.publish(request.header("AJ-Heartbeat-Subject") or "", body)
            await asyncio.sleep(every)

    going = asyncio.create_task(beat())
    try:
        yield request
    finally:
        going.cancel()


@pytest.mark.rule("EXEC-23")
@row("Heartbeats: what a request offers")
async def test_where_and_how_often_a_responder_is_asked_to_beat(site, kind):
    """The subject has two tokens, the last that of the reply's inbox; each attempt has its own."""
    async with site.world() as world:
        responder = await world.serve(kind, [failed("again"), done()])
        task = await world.run(kind)
        await world.settled(task, "complete")
        subjects = [request.header("AJ-Heartbeat-Subject").split(".") for request in responder.requests]
        assert [tokens[:2] for tokens in subjects] == [["ajc", "beat"]] * 2
        assert subjects[0][2] == subjects[1][2]
        assert subjects[0][3] != subjects[1][3]
        assert [tokens[3] for tokens in subjects] == [request.reply_to.split(".")[-1] for request in responder.requests]
        assert [request.header("AJ-Heartbeat-Ms") for request in responder.requests] == ["10000"] * 2
        await world.settled(await world.run(kind, queue="SHORT"), "complete")
        assert responder.last.header("AJ-Heartbeat-Subject") is None  # a run time of 1 s: too short to beat in


@pytest.mark.rule("EXEC-26")
@row("Heartbeats: each gives a full run time from now on, and the lease goes on being renewed")
async def test_a_job_longer_than_its_run_time_completes_with_one_try(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="BEAT")
        await world.asked(responder)
        began = asyncio.get_running_loop().time()
        taken = world.bridge.metric("ajc_bridge_heartbeats_total", kind="taken")
        async with beating(world, responder) as request:
            while asyncio.get_running_loop().time() < began + 8:
                assert (await world.load(task.id)).state == "active"
                await asyncio.sleep(0.2)
        responder.send(request, done(b"at last"))
        found = await world.settled(task, "complete")
        assert (found.tries, found.result.data) == (1, b"at last")
        assert len(responder.requests) == 1
        assert world.bridge.logs("lease.lost", task_id=task.id) == []
        assert world.bridge.metric("ajc_bridge_heartbeats_total", kind="taken") >= taken + 10
        assert world.states(task.id) == ["active", "complete"]
        # and what comes after that is counted, and changes nothing
        over = world.bridge.metric("ajc_bridge_heartbeats_total", kind="over")
        world.connection.publish(request.header("AJ-Heartbeat-Subject"), b'{"percent": 1}')
        await world.until_metric("ajc_bridge_heartbeats_total", over + 1, kind="over")
        assert world.bridge.logs("heartbeat.ignored", kind="over", task_id=task.id)


@pytest.mark.rule("EXEC-28")
@row("Heartbeats: once beaten, three missed beats end the attempt as failed")
async def test_a_responder_killed_in_the_middle_is_found_within_three_beats(site, kind):
    async with site.world() as world:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BEATING, site.url, kind, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            assert await process.stdout.readline() == b"serving\n"
            task = await world.run(kind, queue="BEAT")
            for _ in range(6):  # 5 s: by its run time alone it would be over
                assert await asyncio.wait_for(process.stdout.readline(), 20) == b"beat\n"
            process.kill()
            killed = asyncio.get_running_loop().time()
            found = await world.settled(task, "retry")
            assert 1.5 < asyncio.get_running_loop().time() - killed < 3.9
            assert (found.tries, found.last_err) == (1, "no heartbeat for 3s")
            assert world.bridge.metric("ajc_bridge_attempts_total", type=kind, outcome="no_heartbeat") == 1
            assert world.bridge.metric("choria_asyncjobs_handler_error_total", type=kind) == 1
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.rule("EXEC-26")
@row("Heartbeats: none goes past the task's own deadline")
async def test_beats_do_not_move_the_tasks_deadline(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        deadline = Instant.now().plus(5 * SECOND)
        task = await world.run(kind, queue="BEAT", deadline=deadline)
        await world.asked(responder)
        async with beating(world, responder):
            found = await world.until_state(task.id, "expired")
        assert Instant.now() - deadline < 2 * SECOND
        assert found.tries == 1
        assert found.last_err.startswith("no reply within 4")
        headers, _ = await world.until_letter("BEAT", task.id)
        assert headers.get("AJ-Dlq-Reason") == "deadline"


@pytest.mark.rule("EXEC-27")
@row("Heartbeats: junk harms nobody and is counted")
@pytest.mark.parametrize(
    "body",
    [b"{", b'{"percent": 101}', b"\x00\xff", b"[" * 30_000, b"x" * 60_000, b'{"percent": 1e999}'],
    ids=["json", "percent", "binary", "deep", "huge", "infinite"],
)
async def test_junk_is_a_sign_of_life_and_no_progress(site, kind, body):
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="BEAT")
        await world.asked(responder)
        malformed = world.bridge.metric("ajc_bridge_heartbeats_total", kind="malformed")
        unknown = world.bridge.metric("ajc_bridge_heartbeats_total", kind="unknown")
        subject = responder.last.header("AJ-Heartbeat-Subject")
        for _ in range(50):
            world.connection.publish(subject, body)
            world.connection.publish(subject[:-1] + "!", body)
        await world.until_metric("ajc_bridge_heartbeats_total", malformed + 50, kind="malformed")
        await world.until_metric("ajc_bridge_heartbeats_total", unknown + 50, kind="unknown")
        responder.send(responder.last, done())
        assert (await world.settled(task, "complete")).tries == 1


@pytest.mark.rule("EXEC-27")
@row("Progress: an event within a second, ten a second at most, the last one before the end, stored nowhere")
async def test_progress_is_seen_by_those_who_watch(site, kind):
    async with site.world() as world, ajc.connect(site.url) as client:
        responder = await world.serve(kind, [None])
        task = world.task(kind, queue="BEAT")
        async with client.watch(task.id) as events:
            await world.enqueue(task)
            await world.asked(responder)
            request = responder.last
            began = asyncio.get_running_loop().time()
            for number in range(1, 101):
                said = {"percent": number, "message": f"page {number} of 100\u0007"}
                world.connection.publish(request.header("AJ-Heartbeat-Subject"), json.dumps(said).encode())
                if number == 1:
                    await world.connection.flush()
                    first = await _next_progress(events)
                    assert asyncio.get_running_loop().time() - began < 1
                await asyncio.sleep(0.005)
            took = asyncio.get_running_loop().time() - began
            responder.send(request, done())
            seen = [first]
            async for event in events:
                if isinstance(event, ajc.TaskProgressed):
                    seen.append(event)
                elif event.state == "complete":
                    break
        assert (first.percent, first.message) == (1, "page 1 of 100")
        assert (first.task_id, first.task_type, first.queue, first.tries) == (task.id, kind, "BEAT", 1)
        assert seen[-1].percent == 100
        assert [event.percent for event in seen] == sorted(event.percent for event in seen)
        assert 3 <= len(seen) <= 3 + took * 10
        names = (await world.connection.api("STREAM.NAMES", {"subject": "CHORIA_AJ.E.>"}))["streams"]
        assert not names
        assert b"page" not in (await world.record(task.id)).data


async def _next_progress(events: ajc.Watch) -> ajc.TaskProgressed:
    async for event in events:
        if isinstance(event, ajc.TaskProgressed):
            return event
    raise AssertionError


@row("Heartbeats: a drain waits for an attempt that beats as for any other")
async def test_a_drain_and_its_limit(own_server, make_bridge, kind):
    config = f'[bridge]\ndrain = "4s"\n{CONFIG}'
    bridge = await make_bridge(own_server.url, config).ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="BEAT")
        await world.asked(responder)
        async with beating(world, responder):
            await asyncio.sleep(4)
            bridge.signal(signal.SIGTERM)
            assert await bridge.ended() == 0
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "interrupted")


@row("Heartbeats: a bridge that stood still keeps to its lease, whatever beats came meanwhile")
async def test_a_bridge_that_stood_still(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, CONFIG).ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="BEAT")
        await world.asked(responder)
        async with beating(world, responder, every=0.2):
            await asyncio.sleep(3.5)
            os.kill(bridge.pid, signal.SIGSTOP)
            await asyncio.sleep(1.0)
            os.kill(bridge.pid, signal.SIGCONT)  # half of its lease: it goes on
            await asyncio.sleep(3.5)
            assert len(responder.requests) == 1
            assert (await world.load(task.id)).state == "active"
            os.kill(bridge.pid, signal.SIGSTOP)
            await asyncio.sleep(4.0)
            # twice its lease: the try is over, whether the item's next delivery or the end of the wait was seen first
            os.kill(bridge.pid, signal.SIGCONT)
            await world.asked(responder, 2)
        responder.send(responder.last, done(b"second"))
        found = await world.settled(task, "complete")
        assert (found.tries, found.result.data) == (2, b"second")
