"""Responders and producers that mean harm: nothing of theirs ends the daemon, or becomes a subject."""

from __future__ import annotations

import asyncio

import pytest
from outside import new_id, world_of
from scripted_responder import Reply, done, failed, raw

from ajc.headers import encode_headers

row = pytest.mark.row
HOSTILE_REPLIES = "Bad input: replies with huge, broken or lying headers end an attempt, never the daemon"


@row(HOSTILE_REPLIES)
@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (raw("AJ-Error: " + "e" * 60_000), "retry"),
        (raw(*[f"X-{n}: {n}" for n in range(3_000)], "AJ-Error: last"), "retry"),
        (raw("AJ-Terminate: " + "\u202e\u2028\x85" * 2_000), "terminated"),
        (raw("A" * 60_000 + ": x"), "complete"),
        (raw("Nats-Expected-Last-Subject-Sequence: 0", "Nats-Rollup: all", "Nats-TTL: 1s", body=b"r"), "complete"),
        (Reply(b"\x00" * 40_000), "complete"),
        (Reply(b"", b"NATS/1.0\r\n\r\n"), "complete"),
        (Reply(b"", b"x"), "retry"),
        (Reply(b"", b"NATS/1.0 503\r\n\r\n"), "new"),
    ],
    ids=["long", "many", "controls", "long-name", "server-headers", "zeros", "empty-block", "one-byte", "fake-503"],
)
@pytest.mark.rule("EXEC-17")
async def test_hostile_replies(either_site, kind, reply, state):
    async with either_site.world() as world:
        await world.serve(kind, [reply])
        task = await world.run(kind, queue="SLOW")
        if state == "new":
            await world.until_schedule("SLOW", task.id)
        found = await world.settled(task, state)
        assert len(found.last_err.encode()) <= 4096
        assert world.bridge.running
        stored = await world.record(task.id)
        assert b"Nats-Rollup" not in (stored.headers or b"")


@row(HOSTILE_REPLIES)
@pytest.mark.rule("EXEC-37")
async def test_replies_to_inboxes_that_were_not_asked(either_site, kind):
    async with either_site.world() as world:
        before = world.bridge.metric("ajc_bridge_replies_total", kind="late")
        responder = await world.serve(kind, [None])
        task = await world.run(kind)
        await world.asked(responder)
        inbox, _, token = responder.last.reply_to.rpartition(".")
        for guess in ("0", "ffffffff", "zz", token + "0", "é", "x" * 1_000):
            world.connection.publish(f"{inbox}.{guess}", b"guess", headers=encode_headers({"AJ-Terminate": "no"}))
        responder.send(responder.last, done(b"the real one"))
        found = await world.settled(task, "complete")
        assert found.result.data == b"the real one"
        await world.until_metric("ajc_bridge_replies_total", before + 6, kind="late")


@row("Bad input: a flood of hostile items and records leaves the queue's other tasks running")
async def test_a_flood_of_junk(site, kind):
    async with site.world() as world:
        await world.serve(kind, [done()])
        junk = [new_id() for _ in range(300)]
        for at, task_id in enumerate(junk):
            if at % 3 == 0:
                await world.save(task_id, b'{"id":"%b","type":"%b","state":"new"}' % (task_id.encode(), b"." * at))
            elif at % 3 == 1:
                await world.save(task_id, bytes(range(256)))
        await asyncio.gather(
            *(world.put_item("MAIN", task_id, b"\xff" if at % 7 == 0 else None) for at, task_id in enumerate(junk))
        )
        task = await world.run(kind)
        await world.settled(task, "complete")
        for task_id in junk:
            await world.until_gone("MAIN", task_id)
        assert world.bridge.running


@row("Bad input: numbers and texts at their limits")
@pytest.mark.parametrize(
    "fields",
    [
        b'"tries":9223372036854775807,"max_tries":0',
        b'"tries":-5,"max_tries":3',
        b'"tries":0,"max_tries":9223372036854775807',
        b'"tries":0,"deadline":"9999-12-31T23:59:59.999999999Z"',
        b'"tries":0,"created":"0001-01-01T00:00:00Z"',
        b'"tries":0,"last_err":"\\ud800"',
        b'"tries":0,"queue":"a.b.>"',
        b'"tries":0,"payload":""',
    ],
)
async def test_numbers_and_texts_at_their_limits(site, kind, fields):
    async with site.world() as world:
        await world.serve(kind, [failed("x", 100), done()])
        task_id = new_id()
        await world.save(
            task_id, b'{"id":"%b","type":"%b","state":"new",%b}' % (task_id.encode(), kind.encode(), fields)
        )
        await world.put_item("MAIN", task_id)
        await world.until_gone("MAIN", task_id)

        async def ended() -> bool:
            record = await world.record(task_id)
            return b'"complete"' in record.data or await world.letter("MAIN", task_id) is not None

        await world.until_async(ended, "neither complete nor a dead letter")
        assert world.bridge.running


@row("Metrics: past the first 200 types, one that was never served successfully is `other`")
async def test_hostile_types_do_not_fill_the_metrics(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, "[queues.Q]\nmax_concurrent = -1", level="info")
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        tasks = [world.task(f"{kind}-{n}", queue="Q") for n in range(260)]
        await world.enqueue_all(tasks)
        await world.until_metric("ajc_bridge_parked", 260, queue="Q")
        assert bridge.metric("ajc_bridge_parked", queue="Q", type="other") >= 60
        await world.serve(kind, [done()])
        for _ in range(2):
            await world.settled(await world.run(kind, queue="Q"), "complete")
        assert bridge.metric("ajc_bridge_attempts_total", type=kind, outcome="succeeded") >= 1
