"""Queues as the server has them: made, changed, found and lost while the bridge serves them."""

from __future__ import annotations

from signal import SIGHUP

import pytest
from bridge_process import until
from outside import SECOND, world_of
from scripted_responder import done, failed, terminated

from ajc.queue import Queue
from ajc.topology import delete_queue, ensure_queue, ensure_stores

row = pytest.mark.row
EVERYTHING = """
[queues.Q]
priority = 30
max_tries = 7
max_run_time = "10m"
lease = "20s"
max_concurrent = 12
max_entries = 500
when_full = "discard_old"
max_age = "7d"
backoff = "1m"
storage = "memory"
"""


@row("Queues: JetStream's configuration is the definition, the rest is stream metadata")
async def test_a_queue_is_made_as_its_file_says(own_server, make_bridge):
    bridge = await make_bridge(own_server.url, EVERYTHING).ready()
    async with world_of(own_server.url, bridge) as world:
        stream = (await world.info("CHORIA_AJ_Q_Q"))["config"]
        consumer = (await world.consumer("Q"))["config"]
        assert stream["subjects"] == ["CHORIA_AJ.Q.Q.>"]
        assert (stream["retention"], stream["max_msgs_per_subject"], stream["storage"]) == ("workqueue", 1, "memory")
        assert (stream["max_msgs"], stream["discard"], stream["max_age"]) == (500, "old", 7 * 86_400 * SECOND)
        assert {key: value for key, value in stream["metadata"].items() if key.startswith("ajc.")} == {
            "ajc.max_run_time": "10m",
            "ajc.max_tries": "7",
            "ajc.priority": "30",
            "ajc.backoff": "1m",
        }
        assert (consumer["ack_wait"], consumer["max_ack_pending"], consumer["max_deliver"]) == (20 * SECOND, 12, -1)
        assert (await world.info("CHORIA_AJ_DELAY"))["config"]["allow_msg_schedules"] is True
        [source] = stream["sources"]
        [transform] = source["subject_transforms"]
        assert (source["name"], transform["src"]) == ("CHORIA_AJ_DELAY", "CHORIA_AJ.D.F.Q.*")
        line = await bridge.log("queue.bound", queue="Q")
        assert (line["created"], line["priority"], line["max_tries"], line["lease_ms"]) == (True, 30, 7, 20_000)


@row("Queues: JetStream's configuration is the definition, the rest is stream metadata")
async def test_the_lease_of_a_short_queue_is_its_run_time(own_server, make_bridge):
    config = '[queues.SHORT]\nmax_run_time = "3s"\n[queues.LONG]\nmax_run_time = "2h"'
    await make_bridge(own_server.url, config).ready()
    async with world_of(own_server.url) as world:
        assert (await world.consumer("SHORT"))["config"]["ack_wait"] == 3 * SECOND
        assert (await world.consumer("LONG"))["config"]["ack_wait"] == 30 * SECOND


@row("Queues: a field that the file sets is applied at start and on SIGHUP and logged with before and after")
async def test_fields_are_applied_and_others_left_alone(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        there = Queue("Q", max_tries=4, priority=20, max_concurrent=50, max_entries=300, max_run_time=60, lease=20)
        await ensure_queue(world.connection, there)
        stream = (await world.info("CHORIA_AJ_Q_Q"))["config"]
        bridge = await make_bridge(own_server.url, "[queues.Q]\npriority = 30").ready()
        line = await bridge.log("queue.configured", queue="Q", field="priority")
        assert (line["before"], line["after"]) == ("20", "30")
        changed = (await world.info("CHORIA_AJ_Q_Q"))["config"]
        assert changed == stream | {"metadata": stream["metadata"] | {"ajc.priority": "30"}}

        bridge.write(
            '[queues.Q]\npriority = 40\nmax_concurrent = 7\nmax_tries = 2\nbackoff = "mine"\nlease = "15s"\n'
            '[backoff.mine]\nsteps = ["1h"]\njitter = 0\n[retention]\nexpired = "1h"\n[dlq]\nmax_entries = 5\n'
            "[bridge]\nconcurrency = 3\n"
        )
        bridge.signal(SIGHUP)
        line = await bridge.log("config.applied")
        assert "queues.Q.priority" in line["changed"]
        assert line["refused"] == []
        for field, before, after in (
            ("priority", "30", "40"),
            ("max_concurrent", "50", "7"),
            ("max_tries", "4", "2"),
            ("lease", "20s", "15s"),
        ):
            said = await bridge.log("queue.configured", queue="Q", field=field, after=after)
            assert said["before"] == before
        consumer = (await world.consumer("Q"))["config"]
        assert (consumer["max_ack_pending"], consumer["ack_wait"]) == (7, 15 * SECOND)
        assert (await world.info("CHORIA_AJ_DLQ"))["config"]["max_msgs"] == 5
        await bridge.log("queue.configured", field="CHORIA_AJ_DLQ.max_msgs", after="5")
        await world.serve(kind, [failed("boom")])
        task = await world.run(kind, queue="Q")
        schedule = await world.until_schedule("Q", task.id)
        found = await world.load(task.id)
        assert abs(schedule.at - found.tried - 3600 * SECOND) < 20 * SECOND  # the new policy
        last = await world.run(kind, queue="Q", state="retry", tries=1)
        assert (await world.settled(last, "expired")).tries == 2  # the new cap
        stored = await world.record(last.id)
        assert stored.headers is not None
        assert b"Nats-TTL: 3600s" in stored.headers
        assert bridge.metric("ajc_bridge_slots") == 3


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_sighup_says_what_needs_a_restart(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, "[queues.Q]", level="info").ready()
    bridge.write('[queues.Q]\n[queues.NEW]\n[exec]\nprefix = "other.exec"\n[bridge]\nname = "other"')
    bridge.signal(SIGHUP)
    line = await bridge.log("config.applied")
    assert set(line["refused"]) == {"queues.NEW", "exec.prefix", "bridge.name"}
    asked = await bridge.log("config.restart_needed")
    assert (asked["level"], asked["keys"]) == ("warn", line["refused"])
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_a_wrong_file_is_told_and_the_old_one_stays(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, "[queues.Q]\npriority = 20").ready()
    bridge.write("[queues.Q]\npriority = 200\n[bridge]\nnonsense = 1")
    bridge.signal(SIGHUP)
    line = await bridge.log("config.refused")
    assert len(line["lines"]) == 2
    assert bridge.running
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
        assert (await world.info("CHORIA_AJ_Q_Q"))["config"]["metadata"]["ajc.priority"] == "20"


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_what_one_queue_cannot_take_leaves_all_as_they_were(own_server, make_bridge, kind):
    queues = "[queues.A]\nmax_tries = {}\n[queues.B]\nstorage = '{}'\n[dlq]\nmax_entries = {}"
    bridge = await make_bridge(own_server.url, queues.format(5, "file", 1000)).ready()
    bridge.write(queues.format(1, "memory", 10))
    bridge.signal(SIGHUP)
    line = await bridge.log("config.refused")
    assert "storage" in line["lines"][0]
    async with world_of(own_server.url, bridge) as world:
        assert (await world.info("CHORIA_AJ_Q_A"))["config"]["metadata"]["ajc.max_tries"] == "5"
        assert (await world.info("CHORIA_AJ_DLQ"))["config"]["max_msgs"] == 1000
    bridge.write(queues.format(1, "file", 10))
    bridge.signal(SIGHUP)
    await bridge.log("config.applied")
    async with world_of(own_server.url, bridge) as world:
        assert (await world.info("CHORIA_AJ_Q_A"))["config"]["metadata"]["ajc.max_tries"] == "1"
        assert (await world.info("CHORIA_AJ_DLQ"))["config"]["max_msgs"] == 10


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_what_the_stores_cannot_do_leaves_all_as_it_was(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await ensure_stores(world.connection)  # whose records have no age of their own
        await ensure_queue(world.connection, Queue("Q", priority=20))
        fixed = "[bridge]\ncreate = false\nconcurrency = {}\n[queues.Q]\npriority = {}\n"
        bridge = await make_bridge(own_server.url, fixed.format(7, 20)).ready()
        bridge.write(fixed.format(9, 30) + "[retention]\ncomplete = '1h'")
        bridge.signal(SIGHUP)
        line = await bridge.log("config.refused")
        assert "allow_msg_ttl" in line["lines"][0]
        assert (await world.info("CHORIA_AJ_Q_Q"))["config"]["metadata"]["ajc.priority"] == "20"
        assert bridge.logs("queue.configured") == []
        assert bridge.metric("ajc_bridge_slots") == 7
        bridge.write(fixed.format(9, 30))
        bridge.signal(SIGHUP)
        line = await bridge.log("config.applied")
        assert line["changed"] == ["bridge.concurrency", "queues.Q.priority"]
        assert (await world.info("CHORIA_AJ_Q_Q"))["config"]["metadata"]["ajc.priority"] == "30"


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_a_setting_that_the_queue_cannot_take_leaves_everything_as_it_was(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, '[queues.Q]\nstorage = "file"\npriority = 20').ready()
    bridge.write('[queues.Q]\nstorage = "memory"\npriority = 30')
    bridge.signal(SIGHUP)
    line = await bridge.log("config.refused")
    assert "storage" in line["lines"][0]
    async with world_of(own_server.url, bridge) as world:
        assert (await world.info("CHORIA_AJ_Q_Q"))["config"]["metadata"]["ajc.priority"] == "20"
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
    bridge.write('[queues.Q]\nstorage = "file"\npriority = 40')
    bridge.signal(SIGHUP)
    line = await bridge.log("config.applied")
    assert line["changed"] == ["queues.Q.priority"]


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_a_reload_waits_for_a_server_that_is_away(own_server, make_bridge):
    bridge = await make_bridge(own_server.url, "[queues.Q]\npriority = 20").ready()
    own_server.stop()
    await bridge.log("nats.disconnected")
    bridge.write("[queues.Q]\npriority = 30")
    bridge.signal(SIGHUP)
    await bridge.log("bridge.trouble", where="reload")
    own_server.start()
    line = await bridge.log("config.applied")
    assert line["changed"] == ["queues.Q.priority"]
    await bridge.log("queue.configured", queue="Q", field="priority", before="20", after="30")


@row("SIGHUP applies what can change while running, and says what cannot")
async def test_the_log_level_follows(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q"))
        bridge = make_bridge(own_server.url, "[queues.Q]", level="warn")
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
        assert bridge.logs() == []
        bridge.level = "debug"
        bridge.write("[queues.Q]")
        bridge.signal(SIGHUP)
        await bridge.log("config.applied")
        task = await world.run(kind, queue="Q")
        await world.settled(task, "complete")
        await bridge.log("attempt.ended", task_id=task.id)


@row("Queues: one field that cannot change (storage, retention) is an error that names it, exit 2")
async def test_storage_cannot_change(own_server, make_bridge):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q", storage="file"))
        bridge = make_bridge(own_server.url, '[queues.Q]\nstorage = "memory"')
        assert await bridge.ended() == 2
        [line] = bridge.logs("bridge.refused")
        assert "storage" in line["event"]
        assert "Q" in line["event"]
        assert "Traceback" not in bridge.text()


@row("Queues: one field that cannot change (storage, retention) is an error that names it, exit 2")
async def test_retention_cannot_change(own_server, make_bridge):
    async with world_of(own_server.url) as world:
        config = {"name": "CHORIA_AJ_Q_Q", "subjects": ["CHORIA_AJ.Q.Q.>"], "retention": "limits", "storage": "file"}
        await world.connection.api("STREAM.CREATE.CHORIA_AJ_Q_Q", config)
        bridge = make_bridge(own_server.url, "[queues.Q]")
        assert await bridge.ended() == 2
        assert "retention" in bridge.logs("bridge.refused")[0]["event"]


@row("Queues: `run` serves the queues of its file, or every one there is and DEFAULT, looking again every 10 s")
async def test_queues_are_found_and_lost(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("FIRST"))
        await ensure_queue(world.connection, Queue("GONE"))
        bridge = await make_bridge(own_server.url).ready()
        assert set(bridge.probe("/readyz")[1]["queues"]) == {"FIRST", "GONE", "DEFAULT"}
        await world.serve(kind, [done()])
        for queue in ("FIRST", "DEFAULT"):
            await world.settled(await world.run(kind, queue=queue), "complete")
        await ensure_queue(world.connection, Queue("LATER"))
        await delete_queue(world.connection, "GONE")
        task = await world.run(kind, queue="LATER")
        await world.settled(task, "complete")
        await bridge.log("queue.lost", queue="GONE")
        await until(lambda: bridge.probe("/readyz")[0] == 200)
        assert set(bridge.probe("/readyz")[1]["queues"]) == {"FIRST", "LATER", "DEFAULT"}
        # one that comes again is served again, and a consumer that was deleted is made again
        await ensure_queue(world.connection, Queue("GONE"))
        await world.connection.api("CONSUMER.DELETE.CHORIA_AJ_Q_FIRST.WORKERS")
        for queue in ("GONE", "FIRST"):
            await world.settled(await world.run(kind, queue=queue), "complete")


async def test_a_queue_of_the_file_that_was_removed_is_made_again_and_told(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, "[queues.Q]").ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [None])
        running = await world.run(kind, queue="Q")
        await world.asked(responder)
        await delete_queue(world.connection, "Q")
        line = await bridge.log("queue.bound", count=2, queue="Q")
        assert line["created"] is True
        responder.send(responder.last, done())
        await world.until_state(running.id, "complete")
        await world.serve(f"{kind}2", [done()])
        await world.settled(await world.run(f"{kind}2", queue="Q"), "complete")


@row("Queues: `bridge.create = false` makes nothing")
async def test_nothing_is_made_where_that_is_off(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("THERE"))
        config = "[bridge]\ncreate = false\n[queues.THERE]\n[queues.MISSING]"
        bridge = make_bridge(own_server.url, config)
        await bridge.log("queue.bound", queue="THERE")
        await bridge.log("queue.lost", queue="MISSING")
        status, body = bridge.probe("/readyz")
        assert status == 503
        assert body["queues"] == {"THERE": True, "MISSING": False}
        assert any("MISSING" in line for line in body["missing"])
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="THERE"), "complete")
        await ensure_queue(world.connection, Queue("MISSING"))
        await bridge.ready()
        await world.settled(await world.run(kind, queue="MISSING"), "complete")


@row("Queues: `bridge.create = false` makes nothing")
async def test_without_a_store_and_without_the_right_to_make_one_it_ends(own_server, make_bridge):
    bridge = make_bridge(own_server.url, "[bridge]\ncreate = false\n[queues.Q]")
    assert await bridge.ended() == 2
    assert "task store" in bridge.text() or "CHORIA_AJ_TASKS" in bridge.text()
    async with world_of(own_server.url) as world:
        assert (await world.connection.api("STREAM.NAMES")).get("streams") is None


@row("Queues: shared streams that are removed under a running bridge are made again")
@pytest.mark.parametrize("stream", ["CHORIA_AJ_DELAY", "CHORIA_AJ_DLQ"])
async def test_shared_streams_are_made_again(own_server, make_bridge, kind, stream):
    config = '[queues.Q]\nbackoff = "quick"\n[backoff.quick]\nsteps = ["300ms"]\njitter = 0'
    bridge = await make_bridge(own_server.url, config).ready()
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [failed("one", 100), failed("two", 100), done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
        await world.connection.api(f"STREAM.DELETE.{stream}")
        await world.serve(f"{kind}-retry", [failed("again", 100), done()])
        await world.serve(f"{kind}-stop", [terminated("stop")])
        retried = await world.run(f"{kind}-retry", queue="Q")
        stopped = await world.run(f"{kind}-stop", queue="Q")
        assert (await world.settled(retried, "complete", seconds=40)).tries == 2
        await world.settled(stopped, "terminated", seconds=40)
        await world.until_letter("Q", stopped.id, 40)
        assert bridge.running
