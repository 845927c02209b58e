"""Servers that are killed, stopped and started again under running attempts."""

from __future__ import annotations

import asyncio
import signal
from signal import SIGKILL

import pytest
from bridge_process import until
from outside import new_id, world_of
from scripted_responder import done, failed

from ajc.connection import Message

row = pytest.mark.row
CONFIG = """
[queues.Q]
lease = "20s"
max_run_time = "5m"
max_concurrent = -1
backoff = "quick"
[backoff.quick]
steps = ["500ms"]
jitter = 0
"""


async def test_queues_are_served_at_once_when_a_server_was_away_for_long(own_server, make_bridge):
    bridge = await make_bridge(own_server.url, "[queues.Q]\n[queues.R]").ready()
    own_server.stop(SIGKILL)
    await asyncio.sleep(12)
    own_server.start()
    await bridge.log("nats.reconnected")
    for _ in range(30):  # for longer than it takes to look at the queues again
        assert bridge.probe("/readyz")[0] == 200
        await asyncio.sleep(0.1)
    assert not bridge.logs("queue.lost")


@row("Connection: survives a server restart in the middle of running attempts")
@pytest.mark.parametrize("fast", ["1", "0"], ids=["fast", "public"])
async def test_a_server_restart_in_the_middle_of_attempts(own_server, make_bridge, kind, fast):
    bridge = make_bridge(own_server.url, CONFIG, env={"AJC_FAST": fast})
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        assert bool(bridge.logs("nats.fast_path_unavailable")) == (fast == "0")
        script = [failed("boom", 1_000)] * 10 + [None] * 10 + [done()]
        responder = await world.serve(kind, script)
        retried = [await world.run(kind, queue="Q") for _ in range(10)]
        await world.asked(responder, 10)
        running = [await world.run(kind, queue="Q") for _ in range(10)]
        await world.until_requests(responder, [task.id for task in running])
        own_server.stop(SIGKILL)
        await asyncio.sleep(0.3)
        own_server.start()
        await until(lambda: world.connection.connected)
        first, again = [await bridge.log(f"nats.{word}") for word in ("connected", "reconnected")]
        assert again["server"] == first["server"] == own_server.url
        assert again["version"] == first["version"]
        held = {request.task.id: request for request in responder.requests}
        for task in running:
            responder.send(held[task.id], done(b"after the restart"))
        for task in running:
            found = await world.settled(task, "complete")
            assert found.tries == 1
            assert found.result.data == b"after the restart"
        for task in retried:
            assert (await world.settled(task, "complete")).tries == 2
        # the pull that was lost with the connection is sent anew: a new task does not wait
        task = await world.run(kind, queue="Q")
        assert (await world.settled(task, "complete", seconds=10)).tries == 1
        assert bridge.metric("ajc_bridge_reconnects_total") == 1


@row("Connection: a server that stands still for a while; saves whose answer was lost are read back")
async def test_a_server_that_stands_still(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, CONFIG)
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        responder = await world.serve(kind, [None])
        tasks = [await world.run(kind, queue="Q") for _ in range(20)]
        await world.asked(responder, 20)
        for request in responder.requests:
            responder.send(request, done())
        await until(lambda: len(world.states(tasks[0].id)) >= 1)
        own_server.signal(signal.SIGSTOP)
        await asyncio.sleep(6)  # longer than a save waits for its answer
        own_server.signal(signal.SIGCONT)
        for task in tasks:
            found = await world.settled(task, "complete")
            assert found.tries == 1
        assert len(responder.requests) == 20
        assert bridge.running
        for task in tasks:
            states = world.states(task.id)
            assert states[0] == "active"
            assert states[-1] == "complete"


@row("Connection: a full send buffer, slow consumers: a bridge that stood still goes on")
async def test_a_bridge_that_stands_still_loses_nothing(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, CONFIG, level="info")
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        responder = await world.serve(kind, [done(b"r" * 20_000)])
        bridge.signal(signal.SIGSTOP)
        tasks = [world.task(kind, queue="Q", payload=b"p" * 20_000) for _ in range(300)]
        await world.enqueue_all(tasks)
        await asyncio.sleep(1)
        bridge.signal(signal.SIGCONT)
        for task in tasks:
            await world.settled(task, "complete", seconds=50)
        assert len(responder.requests) == 300


@row("Connection: survives a lost pull")
async def test_pulls_that_nobody_answers_are_sent_again(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, CONFIG)
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        await world.serve(kind, [done()])
        # a consumer that is made anew has forgotten every pull
        config = (await world.consumer("Q"))["config"]
        await world.connection.api("CONSUMER.DELETE.CHORIA_AJ_Q_Q.WORKERS")
        request = {"stream_name": "CHORIA_AJ_Q_Q", "config": config}
        await world.connection.api("CONSUMER.DURABLE.CREATE.CHORIA_AJ_Q_Q.WORKERS", request)
        task = await world.run(kind, queue="Q")
        await world.settled(task, "complete", seconds=20)


@row("Connection: private inbox prefix")
async def test_replies_go_to_a_private_inbox(own_server, make_bridge, kind):
    first, second = make_bridge(own_server.url, CONFIG), make_bridge(own_server.url, CONFIG)
    async with world_of(own_server.url) as world:
        await first.ready()
        await second.ready()
        seen: list[Message] = []
        await world.connection.subscribe("_INBOX.>", seen.append)
        await world.connection.flush()
        seen.clear()
        responder = await world.serve(kind, [done(b"secret result")])
        tasks = [world.task(kind, queue="Q") for _ in range(60)]
        await world.enqueue_all(tasks)
        for task in tasks:
            await world.settled(task, "complete")
        prefixes = {request.reply_to.split(".", 1)[0] for request in responder.requests}
        assert all(len(prefix) >= len("_INBOX_") + 16 and prefix.startswith("_INBOX_") for prefix in prefixes)
        assert 1 <= len(prefixes) <= 2
        assert not [message for message in seen if b"secret result" in message.body]


@row("Several bridges serve one queue")
async def test_two_bridges_run_each_task_once(own_server, make_bridge, kind):
    bridges = [make_bridge(own_server.url, CONFIG), make_bridge(own_server.url, CONFIG)]
    async with world_of(own_server.url) as world:
        for bridge in bridges:
            await bridge.ready()
        responder = await world.serve(kind, [done()])
        tasks = [world.task(kind, queue="Q", id=new_id()) for _ in range(300)]
        await world.enqueue_all(tasks)
        for task in tasks:
            assert (await world.settled(task, "complete")).tries == 1
        assert sorted(request.task.id for request in responder.requests) == sorted(task.id for task in tasks)
        shares = [bridge.metric("ajc_bridge_attempts_total", type=kind) for bridge in bridges]
        assert sum(shares) == 300


async def test_without_jetstream_nothing_is_ready(own_server, make_bridge, kind):
    server = own_server
    bridge = await make_bridge(server.url, CONFIG + "[queues.R]\n").ready()
    server.stop(signal.SIGTERM)
    server.config = "jetstream: false"  # the later of two settings
    server.start()
    await bridge.log("nats.reconnected")
    await bridge.log("queue.lost", seconds=30, count=2)
    status, body = bridge.probe("/readyz")
    assert (status, body["connected"], body["queues"]) == (503, True, {"Q": False, "R": False})
    await asyncio.sleep(5)
    assert len(bridge.logs("queue.lost")) == 2  # told once
    server.stop(signal.SIGTERM)
    server.config = ""
    server.start()
    await bridge.ready()
    async with world_of(server.url, bridge) as world:
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
