"""Queues and stores made by the Go implementation (tests/vectors/streams.json), served as they are."""

from __future__ import annotations

import json
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
from bridge_process import until
from outside import SECOND, World, new_id, world_of
from scripted_responder import done, failed

row = pytest.mark.row
STREAMS = Path(__file__).parent.parent / "vectors" / "streams.json"


def go_config(case: str, key: str) -> dict[str, Any]:
    """A configuration that Go made, without the server's own notes."""
    found = next(one for one in json.loads(STREAMS.read_text())["cases"] if one["name"] == case)[key]
    return {name: value for name, value in found.items() if name not in {"metadata", "pause_until"}}


async def make_go_store(world: World, case: str = "client_defaults") -> dict[str, Any]:
    answer = await world.connection.api("STREAM.CREATE.CHORIA_AJ_TASKS", go_config(case, "CHORIA_AJ_TASKS"))
    return dict(answer["config"])


async def make_go_queue(world: World, name: str, case: str, **consumer: Any) -> None:
    stream = go_config(case, "stream") | {"name": f"CHORIA_AJ_Q_{name}", "subjects": [f"CHORIA_AJ.Q.{name}.>"]}
    await world.connection.api(f"STREAM.CREATE.CHORIA_AJ_Q_{name}", stream)
    request = {"stream_name": stream["name"], "config": go_config(case, "consumer") | consumer}
    await world.connection.api(f"CONSUMER.DURABLE.CREATE.CHORIA_AJ_Q_{name}.WORKERS", request)


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


@row("Queues: a task store made by Go keeps every setting that we have no reason to change")
@pytest.mark.parametrize("case", ["task_retention_24h", "memory_storage"])
async def test_a_go_store_keeps_its_settings(own_server, make_bridge, kind, case):
    async with world_of(own_server.url) as world:
        before = await make_go_store(world, case)
        bridge = await make_bridge(own_server.url).ready()
        after = (await world.info("CHORIA_AJ_TASKS"))["config"]
        assert after["allow_direct"] is True
        assert without(after, "allow_direct", "metadata") == without(before, "allow_direct", "metadata")
        assert bridge.logs("queue.configured", field="CHORIA_AJ_TASKS.allow_direct", before="False", after="True")
        await world.serve(kind, [done()])
        task = await world.run(kind, queue="DEFAULT")
        await world.settled(task, "complete")


@row("Queues: a queue that Go made works unchanged")
async def test_a_go_queue_is_served_as_it_is(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await make_go_store(world)
        await make_go_queue(world, "EMAIL", "queue_everything")
        stream = (await world.info("CHORIA_AJ_Q_EMAIL"))["config"]
        consumer = (await world.consumer("EMAIL"))["config"]
        await make_bridge(own_server.url).ready()
        after = (await world.info("CHORIA_AJ_Q_EMAIL"))["config"]
        assert without(after, "sources", "metadata") == without(stream, "sources", "metadata")
        assert [source["name"] for source in after["sources"]] == ["CHORIA_AJ_DELAY"]
        assert not [key for key in after["metadata"] if key.startswith("ajc.")]
        assert (await world.consumer("EMAIL"))["config"] == consumer
        responder = await world.serve(kind, [failed("boom", 300), done()])
        task = await world.run(kind, queue="EMAIL", max_tries=0)
        found = await world.settled(task, "complete")
        assert found.tries == 2  # the retry came through the delay stream
        assert responder.last.header("AJ-Max-Tries") == "20"  # max_deliver
        assert 86_000 < int(responder.last.header("AJ-Timeout-Ms")) <= 88_000  # ack_wait of 90 s, less 2 s


@row("Heartbeats: a queue that is not renewed offers none")
@row("Lease: a queue made by Go has run time = lease = ack_wait, and nothing is renewed beyond it")
async def test_a_go_queues_lease_is_not_renewed(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await make_go_store(world)
        # the wait for a reply ends half a second before the lease: enough for a machine that is busy with other tests
        await make_go_queue(world, "EMAIL", "queue_name_only", ack_wait=10 * SECOND)
        bridge = await make_bridge(own_server.url, '[queues.EMAIL]\n[queues.OURS]\nlease = "2s"').ready()
        answers: dict[str, list[bytes]] = {"EMAIL": [], "OURS": []}
        for queue, said in answers.items():
            subject = f"$JS.ACK.CHORIA_AJ_Q_{queue}.WORKERS.>"
            await world.connection.subscribe(subject, lambda message, said=said: said.append(message.body))
        responder = await world.serve(kind, [None])
        theirs = await world.run(kind, queue="EMAIL")
        await world.run(kind, queue="OURS")
        await world.until_state(theirs.id, "retry")
        await world.until_gone("EMAIL", theirs.id)
        found = await world.load(theirs.id)
        assert (found.tries, found.last_err) == (1, "no reply within 9s")
        (request,) = [request for request in responder.requests if request.task.id == theirs.id]
        assert request.header("AJ-Heartbeat-Subject") is None
        assert answers["EMAIL"] == [b"+ACK"]
        assert answers["OURS"].count(b"+WPI") >= 5  # every third of two seconds, for as long
        assert bridge.logs("lease.lost") == []


@row("interrupted (drain limit passed)")
@row("Queues: a queue that Go made works unchanged")
async def test_a_go_queues_only_delivery_is_not_used_up_by_a_drain(own_server, make_bridge, kind):
    config = '[queues.EMAIL]\n[bridge]\ndrain = "300ms"'
    async with world_of(own_server.url) as world:
        await make_go_store(world)
        await make_go_queue(world, "EMAIL", "queue_name_only", ack_wait=60 * SECOND, max_deliver=1)
        bridge = await make_bridge(own_server.url, config).ready()
        responder = await world.serve(kind, [None, done()])
        task = await world.run(kind, queue="EMAIL", max_tries=0)
        await world.asked(responder)
        bridge.signal(SIGTERM)
        assert await bridge.ended() == 0
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "interrupted")
        await make_bridge(own_server.url, config).ready()
        assert (await world.settled(task, "complete")).tries == 1


@row("Queues: items that reach Go's max_deliver are found and settled by the same decide()")
@pytest.mark.parametrize("heard", [True, False], ids=["advisory", "sweep"])
async def test_exhausted_items_are_rescued(own_server, make_bridge, kind, heard):
    async with world_of(own_server.url) as world:
        await make_go_store(world)
        await make_go_queue(world, "EMAIL", "queue_max_tries_5", ack_wait=SECOND // 4, max_deliver=2)
        fields = {"queue": "EMAIL", "max_tries": 0}
        active = await world.run(kind, state="active", tries=2, **fields)
        new = await world.run(kind, **fields)
        complete = await world.run(kind, state="complete", tries=1, **fields)
        bad, nobody = new_id(), new_id()
        await world.put_item("EMAIL", bad, b"junk")
        await world.put_item("EMAIL", nobody)
        for _ in range(2):  # a worker that dies twice with all five
            await world.take("EMAIL", 5)
        assert (await world.info("CHORIA_AJ_Q_EMAIL"))["state"]["messages"] == 5

        if not heard:
            # the server gives them up, and says so, when somebody asks once more
            async def given_up() -> bool:
                await world.pull_nothing("EMAIL")
                return bool((await world.consumer("EMAIL"))["num_ack_pending"] == 0)

            await world.until_async(given_up, "the items are not given up")
        responder = await world.serve(kind, [done()])
        bridge = await make_bridge(own_server.url, "[queues.EMAIL]").ready()
        found = await world.settled(active, "expired")
        assert (found.tries, found.last_err) == (2, "attempt abandoned: its lease ended without a reply")
        found = await world.settled(new, "expired")
        assert found.tries == 0
        await world.until_gone("EMAIL", complete.id)
        await world.until_gone("EMAIL", bad)
        await world.until_gone("EMAIL", nobody)
        for task_id, reason in ((active.id, "tries"), (new.id, "tries"), (bad, "malformed_item")):
            headers, _ = await world.until_letter("EMAIL", task_id)
            assert headers.get("AJ-Dlq-Reason") == reason
        assert await world.letter("EMAIL", complete.id) is None
        assert responder.requests == []
        assert len(bridge.logs("task.rescued", queue="EMAIL")) == 5
        await until(lambda: bridge.metric("ajc_bridge_rescued_total", queue="EMAIL") == 5)


@row("Queues: a Go queue whose name has a colon is refused with that reason")
async def test_a_queue_with_a_colon_is_refused(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await make_go_store(world)
        await make_go_queue(world, "A:B", "queue_name_only")
        await make_go_queue(world, "EMAIL", "queue_name_only")
        bridge = await make_bridge(own_server.url).ready()
        line = await bridge.log("queue.lost", queue="A:B")
        assert "A:B" in line["text"]
        await world.serve(kind, [done()])
        task = await world.run(kind, queue="EMAIL")
        await world.settled(task, "complete")
