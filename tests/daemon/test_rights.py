"""What the server does not let a bridge do: it is told so, and no task pays for it."""

from __future__ import annotations

from signal import SIGHUP

import pytest
from outside import world_of
from scripted_responder import done

CONFIG = """
authorization {
  users = [
    { user: admin, password: a }
    { user: bridge, password: b, permissions { publish: { deny: ["ajc.exec.>", "$JS.API.STREAM.UPDATE.>"] } } }
  ]
}
"""
QUEUE = """
[queues.Q]
max_run_time = "1h"
"""


@pytest.mark.parametrize("fast", ["1", "0"], ids=["fast", "public"])
async def test_a_task_that_no_responder_may_be_asked_for_waits_and_says_so(make_server, make_bridge, kind, fast):
    server = make_server(CONFIG)
    url = server.url.replace("nats://", "nats://{}@")
    bridge = await make_bridge(
        url.format("bridge:b"), "[queues.Q]\nmax_run_time = '1h'", env={"AJC_FAST": fast}
    ).ready()
    async with world_of(url.format("admin:a"), bridge) as world:
        responder = await world.serve(kind, [done()])
        task = await world.run(kind, queue="Q")
        await world.until_schedule("Q", task.id)  # without the word of the server it would be held for the run time
        found = await world.load(task.id)
        assert (found.state, found.tries) == ("new", 0)
        assert found.last_err.startswith(f"no permission to publish on ajc.exec.{kind}")
        assert responder.requests == []
        assert bridge.metric("ajc_bridge_slots", state="busy") == 0


async def test_a_file_with_what_the_bridge_may_not_change_is_refused(make_server, make_bridge, kind):
    server = make_server(CONFIG)
    url = server.url.replace("nats://", "nats://{}@")
    bridge = await make_bridge(url.format("bridge:b"), "[queues.Q]\npriority = 20").ready()
    bridge.write("[queues.Q]\npriority = 30")
    bridge.signal(SIGHUP)
    line = await bridge.log("config.refused")
    assert line["lines"][0].startswith("no permission to publish on $JS.API.STREAM.UPDATE.CHORIA_AJ_Q_Q")
    async with world_of(url.format("admin:a"), bridge) as world:
        assert (await world.info("CHORIA_AJ_Q_Q"))["config"]["metadata"]["ajc.priority"] == "20"
    bridge.write("[queues.Q]\npriority = 20\n[bridge]\nconcurrency = 5")
    bridge.signal(SIGHUP)
    assert (await bridge.log("config.applied"))["changed"] == ["bridge.concurrency"]


async def test_a_bridge_that_may_not_pull_is_not_ready_until_it_may(make_server, make_bridge, kind):
    denied = CONFIG.replace('"ajc.exec.>", ', '"$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_Q.>", ')
    server = make_server(denied)
    url = server.url.replace("nats://", "nats://{}@")
    bridge = make_bridge(url.format("bridge:b"), "[queues.Q]\n[queues.OTHER]")
    line = await bridge.log("queue.lost", queue="Q")
    refused = "no permission to publish on $JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_Q.WORKERS"
    assert refused in line["text"]
    status, body = bridge.probe("/readyz")
    assert status == 503
    assert body["queues"] == {"Q": False, "OTHER": True}
    assert any(refused in text for text in body["missing"])
    await server.reload(CONFIG.replace("ajc.exec.>", "nothing.>"))
    await bridge.ready()
    async with world_of(url.format("admin:a"), bridge) as world:
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
