"""Dead letters, as a reader of the stream finds them."""

from __future__ import annotations

from signal import SIGHUP

import pytest
from outside import SECOND, world_of
from scripted_responder import done, raw, terminated

from ajc.errors import NotFound
from ajc.instant import Instant
from ajc.queue import Queue
from ajc.topology import ensure_queue, ensure_stores

row = pytest.mark.row


@row("Dead letters: the body is the task as finally saved, byte for byte; the headers say the rest")
async def test_headers_and_body_of_a_dead_letter(site, kind):
    async with site.world() as world:
        await world.serve(kind, [raw("AJ-Terminate: über\tthe top")])
        before = Instant.now()
        task = await world.run(kind, payload=b"\x00\x01")
        found = await world.settled(task, "terminated")
        headers, body = await world.until_letter("MAIN", task.id)
        assert body == (await world.record(task.id)).data
        given = dict(headers.items)
        written = Instant.parse(given.pop("AJ-Dlq-Time"))
        assert before.plus(-SECOND) < written < Instant.now().plus(SECOND)
        assert given == {
            "AJ-Dlq-Reason": "terminated",
            "AJ-Dlq-Error": "über the top",  # a header holds no control characters
            "AJ-Dlq-Tries": "1",
            "AJ-Task-Id": task.id,
            "AJ-Task-Type": kind,
            "AJ-Queue": "MAIN",
        }
        assert found.last_err == "über\tthe top"


@row("Dead letters: line breaks of the error become blanks in its header")
async def test_line_breaks_become_blanks(site, kind):
    async with site.world() as world:
        task = world.task(kind, state="terminated", last_err="one\ntwo\r\nthree", tries=1)
        await world.enqueue(task)
        headers, body = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Error") in {"one two three", "one two  three"}
        assert body == task.encode()


@row("Dead letters: the stream, its limits, one message a subject")
async def test_the_stream(site):
    async with site.world() as world:
        config = (await world.info("CHORIA_AJ_DLQ"))["config"]
        assert config["subjects"] == ["CHORIA_AJ.DLQ.*.*"]
        assert (config["retention"], config["discard"], config["max_msgs_per_subject"]) == ("limits", "old", 1)
        assert (config["max_age"], config["max_msgs"]) == (30 * 86_400 * SECOND, 100_000)


@row("Dead letters: counted in ajc_bridge_dead_letters_total")
async def test_dead_letters_are_counted(site, kind):
    async with site.world() as world:
        name = "ajc_bridge_dead_letters_total"
        before = world.bridge.metric(name, queue="SLOW", reason="terminated")
        await world.serve(kind, [terminated("stop")])
        task = await world.run(kind, queue="SLOW")
        await world.settled(task, "terminated")
        await world.until_metric(name, before + 1, queue="SLOW", reason="terminated")


@row("[retention]: how long a finished task is kept")
async def test_a_terminated_task_has_its_time_to_live(site, kind):
    async with site.world() as world:
        await world.serve(kind, [terminated("stop")])
        task = await world.run(kind)
        await world.settled(task, "terminated")
        stored = await world.record(task.id)
        assert stored.headers is not None
        assert b"Nats-TTL: 7200s" in stored.headers


@row("[retention]: discard: the record is removed, the event still published")
async def test_a_discarded_task_leaves_an_event_and_its_dead_letter(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, '[queues.Q]\n[retention]\ndiscard = ["complete", "terminated"]').ready()
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done(), terminated("stop")])
        for state in ("complete", "terminated"):
            task = await world.run(kind, queue="Q")
            await world.until_events(task.id, ["active", state])
            await world.until_gone("Q", task.id)
            with pytest.raises(NotFound):
                await world.record(task.id)
        headers, body = await world.until_letter("Q", task.id)
        assert headers.get("AJ-Dlq-Reason") == "terminated"
        assert b'"state":"terminated"' in body


@row("[retention]: discard: the record is removed, the event still published")
@pytest.mark.parametrize("point", ["settle.saved", "settle.dead_lettered"])
async def test_a_discarded_task_whose_bridge_is_killed_in_between_is_not_run_again(
    own_server, make_bridge, kind, point
):
    config = '[queues.Q]\nlease = "1s"\n[retention]\ndiscard = ["terminated"]'
    dying = make_bridge(own_server.url, config, env={"AJC_FAILPOINT": point})
    async with world_of(own_server.url, dying) as world:
        await dying.ready()
        responder = await world.serve(kind, [terminated("stop"), done()])
        task = await world.run(kind, queue="Q")
        assert await dying.ended() == -9
        assert (await world.load(task.id)).state == "terminated"  # over, whatever is left to do
        survivor = make_bridge(own_server.url, config)
        await survivor.ready()
        await world.until_gone("Q", task.id)
        with pytest.raises(NotFound):
            await world.record(task.id)
        headers, _ = await world.until_letter("Q", task.id)
        assert headers.get("AJ-Dlq-Reason") == "terminated"
        assert len(responder.requests) == 1


@row("[retention]: how long a finished task is kept")
async def test_a_store_that_keeps_every_record_is_no_place_for_a_retention(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await ensure_stores(world.connection)
        await ensure_queue(world.connection, Queue("Q"))
        fixed = "[bridge]\ncreate = false\n[queues.Q]\n"
        refused = make_bridge(own_server.url, fixed + "[retention]\ncomplete = '1h'")
        assert await refused.ended() == 2
        (line,) = refused.logs("bridge.refused")
        assert "stream CHORIA_AJ_TASKS has no allow_msg_ttl" in line["event"]

        bridge = await make_bridge(own_server.url, fixed).ready()
        bridge.write(fixed + "[retention]\ncomplete = '1h'")
        bridge.signal(SIGHUP)
        await bridge.log("config.refused")
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
