"""Somebody cancels tasks that a bridge works on: attempts end, late replies change nothing, no race is lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from signal import SIGKILL

import pytest
from outside import world_of
from scripted_responder import done, failed

import ajc
from ajc.cancel_by_hand import cancelled
from ajc.client import Client
from ajc.failpoint import POINTS
from ajc.instant import Instant

row = pytest.mark.row
PROGRAM = Path(__file__).parent.parent / "sdk" / "cancel_program.py"
STORE_COUNTS = "Cancel: a message there alone cancels nothing: the store's word counts"
MISSED = "Cancel: a bridge that missed the message finds it at its save, and acknowledges the item"
ONE_SLOT = """
[bridge]
concurrency = 1
[exec]
prefix = "other.exec"
[queues.Q]
lease = "10s"
max_run_time = "10m"
max_concurrent = 1
"""
KILLED = """
[queues.Q]
lease = "1500ms"
max_run_time = "4s"
backoff = "quick"
[backoff.quick]
steps = ["100ms"]
jitter = 0
"""


def heard_by(world, task_id):
    """What a responder would hear while it runs the task."""
    heard = []
    return heard, world.connection.subscribe(f"ajc.cancel.{task_id}", heard.append)


@row("Cancel: a running attempt's slot is free within a second; its late reply is counted and changes nothing")
async def test_a_running_attempt_ends_within_a_second(own_server, make_bridge, kind):
    """EXEC-29, EXEC-30: the responder hears the same message; the prefix of requests is none of `ajc.cancel`'s."""
    bridge = await make_bridge(own_server.url, ONE_SLOT).ready()
    async with world_of(own_server.url, bridge) as world:
        client = Client(world.connection)
        responder = await world.serve(kind, [None, done(b"the next one")], prefix="other.exec")
        task = await world.run(kind, queue="Q")
        await world.asked(responder)
        heard, subscribing = heard_by(world, task.id)
        await subscribing
        following = await world.run(kind, queue="Q")
        began = asyncio.get_running_loop().time()
        found = await client.cancel(task.id, "mistake")
        await world.asked(responder, 2)
        assert responder.last.task.id == following.id
        assert responder.last.at - began < 1, "the slot was not free"
        await world.settled(following, "complete")
        assert [message.body for message in heard] == [b"mistake"]

        await bridge.log("attempt.cancelled", task_id=task.id, queue="Q", type=kind, try_number=1)
        assert bridge.metric("ajc_bridge_attempts_cancelled_total", queue="Q", type=kind) == 1
        record = await world.record(task.id)
        assert record.data == found.encode()
        responder.send(responder.requests[0], done(b"too late"))
        await world.until_metric("ajc_bridge_replies_total", 1, kind="late")
        assert await world.record(task.id) == record
        assert world.states(task.id) == ["active", "terminated"]
        assert (found.state, found.tries, found.last_err) == ("terminated", 1, "cancelled: mistake")
        assert await world.letter("Q", task.id) is None
        assert bridge.metric("ajc_bridge_revision_conflicts_total") == 0


@row("Cancel: new, waiting, parked and running tasks; no dead letter")
async def test_tasks_in_every_stage_are_cancelled(either_site, kind):
    async with either_site.world() as world:
        client = Client(world.connection)
        responder = await world.serve(kind, [failed("boom"), None])
        waiting = await world.run(kind, queue="SLOW")
        await world.until_schedule("SLOW", waiting.id)
        running = await world.run(kind, queue="SLOW")
        await world.asked(responder, 2)
        parked = await world.run(f"{kind}x", queue="SLOW")
        await world.until_waits("SLOW", parked.id, 1)
        new = world.task(kind, queue="SLOW")
        await world.save(new.id, new.encode())  # its item is on its way
        tasks = (waiting, running, parked, new)
        for task in tasks:
            found = await client.cancel(task.id, "all")
            assert (found.state, found.last_err) == ("terminated", "cancelled: all")
        await world.put_item("SLOW", new.id)
        await world.bridge.log("attempt.cancelled", task_id=running.id)
        tries = []
        for task in tasks:
            await world.until_gone("SLOW", task.id, 5)
            assert await world.schedule("SLOW", task.id) is None
            assert await world.letter("SLOW", task.id) is None
            found = await world.load(task.id)
            assert found.cancelled is not None
            tries.append(found.tries)
        assert tries == [1, 1, 0, 0]
        assert len(responder.requests) == 2
        again = await client.retry(running.id)
        assert (again.state, again.cancelled) == ("retry", None)
        await world.asked(responder, 3)
        responder.send(responder.last, done())
        assert (await world.settled(running, "complete", queue="SLOW")).cancelled is None


@row(STORE_COUNTS)
async def test_a_message_alone_cancels_nothing(site, kind):
    """EXEC-30: whoever may publish there can make a bridge look, and no more."""
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind)
        await world.asked(responder)
        for _ in range(50):
            for token in (task.id, "nobody", "ä", "x" * 500):
                world.connection.publish(f"ajc.cancel.{token}", b"\xff\x00 stop")
        await world.connection.flush()
        await asyncio.sleep(0.6)  # longer than it takes to look, twice
        assert world.states(task.id) == ["active"]
        responder.send(responder.last, done(b"whole"))
        found = await world.settled(task, "complete")
        assert found.result is not None
        assert found.result.data == b"whole"
        assert world.bridge.logs("attempt.cancelled", task_id=task.id) == []


@row(STORE_COUNTS)
async def test_a_message_that_comes_while_a_look_is_under_way_is_looked_after(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind)
        await world.asked(responder)
        for _ in range(20):  # false ones, and the true one among them
            world.connection.publish(f"ajc.cancel.{task.id}")
        await Client(world.connection).cancel(task.id)
        await world.bridge.log("attempt.cancelled", 2.0, task_id=task.id)


@row(MISSED)
@pytest.mark.parametrize("reply", [done(), failed("boom")], ids=["success", "error"])
async def test_a_bridge_that_missed_the_message_lets_the_item_go_at_its_save(site, kind, reply):
    """EXEC-30: its last save fails by its revision; the lease would last ten seconds."""
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind)
        await world.asked(responder)
        active = await world.record(task.id)
        ended = cancelled(await world.load(task.id), "cancelled: quietly", Instant.now())
        await world.save(task.id, ended.encode(), active.revision)  # whoever did this was killed before the rest
        responder.send(responder.last, reply)
        await world.until_gone("MAIN", task.id, 3)
        await world.bridge.log("attempt.cancelled", task_id=task.id)
        assert await world.load(task.id) == ended
        assert await world.letter("MAIN", task.id) is None
        assert await world.schedule("MAIN", task.id) is None


@row("Cancel: never a lost race: a task that completed first stays complete, and the caller learns it")
async def test_completion_and_cancel_race_and_each_task_has_one_end(own_server, make_bridge, kind):
    config = '[queues.Q]\nlease = "10s"\nmax_concurrent = -1\n'
    bridges = [await make_bridge(own_server.url, config).ready() for _ in range(2)]
    chance = random.Random(11)
    async with world_of(own_server.url, bridges[0]) as world, ajc.connect(own_server.url) as client:
        await world.serve(kind, lambda _request: done(after=chance.uniform(0, 0.1)))
        tasks = [world.task(kind, queue="Q") for _ in range(400)]
        await world.enqueue_all(tasks)

        async def cancel(task):
            await asyncio.sleep(chance.uniform(0, 1.0))
            try:
                found = await client.cancel(task.id, "race")
            except ajc.Conflict as error:
                assert "is complete already" in str(error)  # noqa: PT017 - both ends are right, each told as it is
                return "complete"
            return found.state

        said = await asyncio.gather(*(cancel(task) for task in tasks))
        for task, word in zip(tasks, said, strict=True):
            found = await world.load(task.id)
            assert (found.state, found.final, found.cancelled is None) == (word, True, word == "complete")
            assert world.states(task.id).count(word) == 1
            assert await world.letter("Q", task.id) is None
        counts = Counter(said)
        assert set(counts) == {"complete", "terminated"}, counts
        await world.until_async(lambda: _empty(world), "items are left", 8)  # before a lease would have ended


async def _empty(world):
    info = await world.info("CHORIA_AJ_Q_Q")
    return info["state"]["messages"] == 0


@row("Cancel: killed between any two steps, the outcome is one of the two, and nothing is left")
@pytest.mark.parametrize("point", ["dispatch.sent", "cancel.found", "settle.save_sent"])
async def test_a_bridge_killed_in_the_middle_of_a_cancel(own_server, make_bridge, kind, point):
    first = await make_bridge(own_server.url, KILLED, env={"AJC_FAILPOINT": point}).ready()
    async with world_of(own_server.url) as world:
        client = Client(world.connection)
        responder = await world.serve(kind, [None] if point == "cancel.found" else [done(after=0.05)])
        task = await world.run(kind, queue="Q")
        if point == "cancel.found":
            await world.asked(responder)
            await client.cancel(task.id)
        assert await first.ended() == -SIGKILL
        if point != "cancel.found":
            await client.cancel(task.id)
        await make_bridge(own_server.url, KILLED).ready()
        found = await world.settled(task, "terminated", "complete", queue="Q")
        assert (found.state, found.tries) == ("terminated", 1)
        assert len(responder.requests) <= 1


@row("Cancel: killed between any two steps, the outcome is one of the two, and nothing is left")
@pytest.mark.parametrize(
    "point", [point for point in POINTS if point.startswith("cancel.") and point != "cancel.found"]
)
async def test_a_canceller_killed_at_any_point_while_its_tasks_run(site, kind, point):
    """What it leaves is one of the two ends, and the bridge tidies up: nobody has to cancel again."""
    async with site.world() as world:
        responder = await world.serve(kind, lambda request: None if request.task.id == running.id else done())
        running = world.task(kind, queue="LEASE")
        await world.enqueue(running)
        await world.asked(responder)
        waiting = world.task(kind, queue="LEASE", state="new")
        await world.save(waiting.id, waiting.encode())
        for task in (running, waiting):
            code = await asyncio.to_thread(killed_cancel, world.connection.options.servers[0], task.id, point)
            assert code == -SIGKILL, "the fail point was not reached"
        await world.put_item("LEASE", waiting.id)
        state = (await world.load(running.id)).state
        if point not in ("cancel.begin", "cancel.save_sent"):
            assert state == "terminated"
        responder.send(responder.requests[0], done())
        if state == "active":
            state = (await world.until_state(running.id, "complete", "terminated")).state
        await world.until_gone("LEASE", running.id, 5)
        assert (await world.load(running.id)).state == state
        found = await world.settled(waiting, "complete", "terminated", queue="LEASE", seconds=5)
        assert (found.state == "terminated") == (found.cancelled is not None)
        for task in (running, waiting):
            assert await world.schedule("LEASE", task.id) is None
            assert await world.letter("LEASE", task.id) is None


def killed_cancel(url, task_id, point):
    env = {**os.environ, "AJC_FAILPOINT": point}
    return subprocess.run([sys.executable, str(PROGRAM), url, task_id], env=env, check=False, timeout=30).returncode
