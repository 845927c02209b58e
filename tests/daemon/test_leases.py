"""Leases, run times and counted tries, seen by the responder and by another bridge."""

from __future__ import annotations

import asyncio
import signal
from signal import SIGKILL

import pytest
from bridge_process import until
from outside import MINUTE, SECOND, new_id, world_of
from scripted_responder import busy, done, failed

from ajc.instant import Instant

row = pytest.mark.row
TWO_BRIDGES = """
[bridge]
name = "{name}"
[queues.Q]
lease = "3s"
max_run_time = "10m"
"""


@row("Lease: renewed while the attempt runs")
async def test_a_job_longer_than_the_lease_runs_once(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [done(after=5.0)])  # LEASE has a lease of 2 s
        task = await world.run(kind, queue="LEASE")
        found = await world.settled(task, "complete")
        assert found.tries == 1
        assert len(responder.requests) == 1
        assert world.bridge.logs("lease.lost", task_id=task.id) == []


@row("Lease: a killed bridge's task runs elsewhere after the lease, not the run time")
@row("active otherwise (redelivered: the server itself ended the earlier lease)")
@row("Counting: a crash at worst leaves one try counted that did not run")
async def test_a_killed_bridges_task_runs_elsewhere(own_server, make_bridge, kind):
    first = await make_bridge(own_server.url, TWO_BRIDGES.format(name="first")).ready()
    async with world_of(own_server.url) as world:
        responder = await world.serve(kind, [None, None, done()])
        task = await world.run(kind, queue="Q")
        last = await world.run(kind, queue="Q", max_tries=1)
        await world.asked(responder, 2)
        first.signal(SIGKILL)
        killed = asyncio.get_running_loop().time()
        make_bridge(own_server.url, TWO_BRIDGES.format(name="second"))
        found = await world.settled(task, "complete", seconds=40)
        assert found.tries == 2
        assert responder.last.task.id == task.id
        assert 0.5 < responder.last.at - killed < 30
        found = await world.settled(last, "expired", seconds=40)
        assert found.tries == 1
        assert len(responder.requests) == 3
        headers, _ = await world.until_letter("Q", last.id)
        assert headers.get("AJ-Dlq-Reason") == "tries"


@row("Lease: one that has run out here sends no ack")
@row("revision lost")
async def test_a_bridge_that_slept_beyond_its_lease_says_nothing(own_server, make_bridge, kind):
    first = await make_bridge(own_server.url, TWO_BRIDGES.format(name="first")).ready()
    async with world_of(own_server.url, first) as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="Q")
        await world.asked(responder)
        first.signal(signal.SIGSTOP)
        second = make_bridge(own_server.url, TWO_BRIDGES.format(name="second"))
        await world.asked(responder, 2, 40)
        responder.send(responder.requests[0], done(b"from the first request"))
        first.signal(signal.SIGCONT)
        await first.log("task.revision_conflict", task_id=task.id)
        assert (await world.load(task.id)).state == "active"
        assert await world.item("Q", task.id) is not None  # the second attempt's, not acknowledged by the first
        assert world.bridge.metric("ajc_bridge_revision_conflicts_total") == 1
        # the stopped bridge may have been sent the item once more: whoever asked last holds the task now
        answered = 1
        while (await world.load(task.id)).state == "active":
            for request in responder.requests[answered:]:
                responder.send(request, done(b"from try %d" % request.task.tries))
            answered = len(responder.requests)
            await asyncio.sleep(0.05)
        found = await world.settled(task, "complete")
        assert found.tries == len(responder.requests)
        assert found.result.data in {b"from try 2", b"from try 3"}
        assert second.running


async def twenty_running(world, kind):
    responder = await world.serve(kind, [None] * 20)
    tasks = [await world.run(kind, queue="Q") for _ in range(20)]
    await world.asked(responder, 20)
    return responder, tasks


async def test_a_shorter_lease_runs_nothing_twice(own_server, make_bridge, kind):
    config = '[queues.Q]\nlease = "{}"\nmax_run_time = "10m"\nmax_concurrent = -1'
    bridge = await make_bridge(own_server.url, config.format("30s")).ready()
    async with world_of(own_server.url, bridge) as world:
        responder, tasks = await twenty_running(world, kind)
        await asyncio.sleep(3)  # held for longer than the new lease
        bridge.write(config.format("2s"))
        bridge.signal(signal.SIGHUP)
        await bridge.log("config.applied")
        assert (await world.consumer("Q"))["config"]["ack_wait"] == 2 * SECOND
        await asyncio.sleep(4)
        for request in list(responder.requests):
            responder.send(request, done())
        for task in tasks:
            assert (await world.settled(task, "complete")).tries == 1
        assert len(responder.requests) == 20
        assert not bridge.logs("lease.lost")


@row("Lease: one that another tool shortens is kept by as soon as it is seen, and told; nothing runs twice here")
async def test_a_lease_shortened_by_another_tool_runs_nothing_twice(own_server, make_bridge, kind):
    config = '[queues.Q]\nlease = "30s"\nmax_run_time = "10m"\nmax_concurrent = -1'
    bridge = await make_bridge(own_server.url, config).ready()
    async with world_of(own_server.url, bridge) as world:
        responder, tasks = await twenty_running(world, kind)
        consumer = (await world.consumer("Q"))["config"] | {"ack_wait": 2 * SECOND}
        request = {"stream_name": "CHORIA_AJ_Q_Q", "config": consumer, "action": "update"}
        await world.connection.api("CONSUMER.DURABLE.CREATE.CHORIA_AJ_Q_Q.WORKERS", request)
        await world.until_metric("ajc_bridge_items_came_again_total", 20, queue="Q")
        assert bridge.logs("item.came_again", queue="Q")
        line = await bridge.log("queue.lease_shortened", queue="Q")
        assert (line["level"], line["before_ms"], line["after_ms"]) == ("warn", 30_000, 2_000)
        await asyncio.sleep(2)  # a lease: those that were on their way have come
        settled = bridge.metric("ajc_bridge_items_came_again_total", queue="Q")
        assert settled >= 20
        await asyncio.sleep(5)  # two leases and a half
        assert bridge.metric("ajc_bridge_items_came_again_total", queue="Q") == settled
        for request in list(responder.requests):
            responder.send(request, done())
        for task in tasks:
            assert (await world.settled(task, "complete")).tries == 1
        assert len(responder.requests) == 20
        assert not bridge.logs("lease.lost")


@row("Effective run time = min(run time, task's deadline - now); the handler's deadline is a margin before its end")
async def test_what_the_handler_is_told_of_its_time(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        for deadline_in, run_time in ((None, 30.0), (MINUTE, 30.0), (10 * SECOND, 10.0)):
            deadline = None if deadline_in is None else Instant.now().plus(deadline_in)
            task = await world.run(kind, deadline=deadline)
            found = await world.settled(task, "complete")
            request = responder.last
            margin = min(2.0, run_time / 10)
            ends = Instant.parse(request.header("AJ-Handler-Deadline"))
            begin = deadline.plus(-10 * SECOND) if run_time == 10.0 else found.tried
            assert abs((ends - begin) / 1e9 - (run_time - margin)) < 1.5
            assert abs(int(request.header("AJ-Timeout-Ms")) / 1e3 - (run_time - margin)) < 3


@row("`tried` is the instant of the active save")
async def test_tried_is_the_instant_of_the_active_save(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind)
        await world.asked(responder)
        stored = await world.record(task.id)
        active = responder.last.task
        assert abs(stored.stored_at - active.tried) < 5 * SECOND
        responder.send(responder.last, done(after=0))
        found = await world.settled(task, "complete")
        assert found.tried == active.tried


@row("Counting: the active save raises `tries` by one before the request goes out")
async def test_tries_are_counted_before_the_request(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind)
        await world.asked(responder)
        stored = await world.load(task.id)
        assert (stored.state, stored.tries) == ("active", 1)
        assert world.states(task.id) == ["active"]
        responder.send(responder.last, done())
        await world.settled(task, "complete")


@row("Counting: tries = counted attempts, whatever else happened in between")
async def test_uncounted_attempts_leave_the_count_alone(site, kind):
    async with site.world() as world:
        script = [failed("one", 50), busy("wait", 300), busy("wait", 300), failed("two", 50), busy("wait", 300), done()]
        responder = await world.serve(kind, script)
        task = await world.run(kind, max_tries=3)
        found = await world.settled(task, "complete")
        assert found.tries == 3
        assert [request.task.tries for request in responder.requests] == [1, 2, 2, 2, 3, 3]
        assert world.states(task.id) == [*["active", "retry"] * 5, "active", "complete"]
        assert [event.tries for event in world.events(task.id)] == [1, 1, 2, 1, 2, 1, 2, 2, 3, 2, 3, 3]


async def test_an_item_that_came_twice_runs_once(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="LEASE")
        await world.asked(responder)
        other = new_id()
        await world.put_item("LEASE", other, b'{"kind":0,"job":"%b"}' % task.id.encode())
        await world.until_gone("LEASE", other)
        assert len(responder.requests) == 1
        responder.send(responder.last, done())
        await world.settled(task, "complete")

        async def nothing_waits() -> bool:
            return await world.schedule("LEASE", task.id) is None and await world.item("LEASE", task.id) is None

        await world.until_async(nothing_waits, "an item of a complete task is left")
        assert len(responder.requests) == 1
        await until(lambda: world.states(task.id) == ["active", "complete"])
