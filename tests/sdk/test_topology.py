"""Streams and consumers on a real server: made as Go makes them, and Go's taken as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sdk_world import connected, item_of, queue_of, unique, until, vectors

from ajc.errors import InvalidValue, NotFound, StoreError
from ajc.headers import encode_headers
from ajc.instant import Instant
from ajc.queue import Queue
from ajc.stored_queue import differences
from ajc.subjects import delay_fire_subject, delay_schedule_subject, item_subject
from ajc.topology import apply_queue, delete_queue, ensure_queue, ensure_stores, list_queues, purge_queue, read_queue

CASES = vectors("streams.json")
QUEUES = [case for case in CASES if case["kind"] == "queue" and case.get("bind_reads")]
STORES = [case for case in CASES if case["kind"] == "stores" and "name" in case.get("CHORIA_AJ_TASKS", ())]
OURS = {"metadata", "sources"}


def renamed(config: Any, name: str) -> Any:
    """A recorded configuration for a queue of this test's own."""
    text = msgspec.json.encode(config)
    for old in ("EMAIL", "DEFAULT"):
        text = text.replace(f"CHORIA_AJ_Q_{old}".encode(), f"CHORIA_AJ_Q_{name}".encode())
        text = text.replace(f"CHORIA_AJ.Q.{old}.".encode(), f"CHORIA_AJ.Q.{name}.".encode())
    return msgspec.json.decode(text)


def without(config: Any, *keys: str) -> Any:
    return {key: value for key, value in config.items() if key not in {*OURS, *keys}}


def our_queue(name: str, parameters: Any) -> Queue:
    """Go's parameters in our words: its run time is our lease and run time."""
    run_time = parameters["max_runtime_ns"] / 1e9 or 3600
    return Queue(
        name,
        max_run_time=run_time,
        lease=run_time,
        max_tries=max(0, parameters["max_tries"]),
        max_concurrent=parameters["max_concurrent"] or None,
        max_entries=parameters["max_entries"],
        when_full="discard_old" if parameters["discard_old"] else None,
        max_age=parameters["max_age_ns"] / 1e9,
    )


@pytest.mark.parametrize("case", QUEUES, ids=[case["name"] for case in QUEUES])
async def test_a_queue_is_made_as_go_makes_it(server: Any, case: Any) -> None:
    name = unique()
    queue = our_queue(name, case["parameters"])
    if case["name"] == "queue_memory":
        queue = Queue(name, storage="memory", lease=3600)
    async with connected(server) as connection:
        info = await ensure_queue(connection, queue)
        assert info.differences == ()
        assert info.delayed_items
        assert without(info.stream_config) == without(renamed(case["stream"], name))
        # tries are the bridge's to count: the server never stops delivering
        go = renamed(case["consumer"], name)
        assert without(info.consumer_config, "pause_until") == without({**go, "max_deliver": -1}, "pause_until")
        assert info.max_tries == max(0, case["bind_reads"]["max_tries"])


@pytest.mark.parametrize("case", QUEUES, ids=[case["name"] for case in QUEUES])
async def test_a_queue_made_by_go_keeps_everything_and_gets_the_delayed_items(server: Any, case: Any) -> None:
    name = unique()
    async with connected(server) as connection:
        stream, consumer = renamed(case["stream"], name), renamed(case["consumer"], name)
        consumer.pop("pause_until")
        await connection.api(f"STREAM.CREATE.{stream['name']}", stream)
        await connection.api(
            f"CONSUMER.DURABLE.CREATE.{stream['name']}.WORKERS", {"stream_name": stream["name"], "config": consumer}
        )
        before = await read_queue(connection, name)
        assert not before.delayed_items
        after = await ensure_queue(connection, Queue(name))
        assert after.delayed_items
        assert without(after.stream_config) == without(before.stream_config)
        assert after.stream_config["metadata"] == before.stream_config["metadata"]
        assert after.consumer_config == before.consumer_config
        reads = case["bind_reads"]
        assert (after.max_tries or -1, after.max_run_time_ns) == (reads["max_tries"], reads["max_runtime_ns"])
        assert (after.max_entries or -1, after.max_concurrent) == (reads["max_entries"], reads["max_concurrent"])


@pytest.mark.parametrize("case", STORES, ids=[case["name"] for case in STORES])
async def test_a_store_made_by_go_keeps_every_setting_but_direct_reads(own_server: Any, case: Any) -> None:
    config = case["CHORIA_AJ_TASKS"]
    async with connected(own_server) as connection:
        await connection.api("STREAM.CREATE.CHORIA_AJ_TASKS", config)
        before = (await connection.api("STREAM.INFO.CHORIA_AJ_TASKS"))["config"]
        changes = await ensure_stores(connection)
        after = (await connection.api("STREAM.INFO.CHORIA_AJ_TASKS"))["config"]
        assert after == {**before, "allow_direct": True}
        assert "CHORIA_AJ_TASKS.allow_direct" in {change.field for change in changes}
        assert await ensure_stores(connection) == ()
        await ensure_stores(connection, msg_ttl=True)
        after = (await connection.api("STREAM.INFO.CHORIA_AJ_TASKS"))["config"]
        assert without(after) == without({**before, "allow_direct": True, "allow_msg_ttl": True})


async def test_the_stores_are_made_as_go_makes_its_own(own_server: Any) -> None:
    go = next(case for case in STORES if case["name"] == "client_defaults")["CHORIA_AJ_TASKS"]
    async with connected(own_server) as connection:
        await ensure_stores(connection)
        made = (await connection.api("STREAM.INFO.CHORIA_AJ_TASKS"))["config"]
        assert without(made, "allow_direct") == without(go, "allow_direct")
        assert made["allow_direct"] is True
        delay = (await connection.api("STREAM.INFO.CHORIA_AJ_DELAY"))["config"]
        assert delay["allow_msg_schedules"] is True
        assert (delay["retention"], delay["max_msgs_per_subject"]) == ("workqueue", 1)
        assert delay["subjects"] == ["CHORIA_AJ.D.S.*.*", "CHORIA_AJ.D.F.*.*"]
        letters = (await connection.api("STREAM.INFO.CHORIA_AJ_DLQ"))["config"]
        assert (letters["max_age"], letters["max_msgs"]) == (30 * 86_400 * 10**9, 100_000)


@pytest.mark.parametrize("there", [True, False])
async def test_dead_letters_may_be_kept_for_less_than_the_server_remembers_ids(own_server: Any, there: bool) -> None:
    """The server refuses a stream whose window for duplicates is longer than its age."""
    async with connected(own_server) as connection:
        if there:
            await ensure_stores(connection)
        await ensure_stores(connection, dlq_max_age_ns=10**8)
        letters = (await connection.api("STREAM.INFO.CHORIA_AJ_DLQ"))["config"]
        assert (letters["max_age"], letters["duplicate_window"]) == (10**8, 10**8)
        assert await ensure_stores(connection, dlq_max_age_ns=10**8) == ()


async def test_dead_letters_get_the_limits_that_are_given(own_server: Any) -> None:
    async with connected(own_server) as connection:
        await ensure_stores(connection, dlq_max_entries=10)
        changes = await ensure_stores(connection, dlq_max_age_ns=10**12)
        assert [(change.field, change.after) for change in changes] == [("CHORIA_AJ_DLQ.max_age", str(10**12))]
        config = (await connection.api("STREAM.INFO.CHORIA_AJ_DLQ"))["config"]
        assert (config["max_age"], config["max_msgs"]) == (10**12, 10)


async def test_many_may_make_the_same_at_once(own_server: Any) -> None:
    async with connected(own_server) as one, connected(own_server) as two:
        made = await asyncio.gather(
            *(
                ensure_queue(connection, Queue("Q", priority=place + 1))
                for place, connection in enumerate([one, two] * 4)
            )
        )
        assert len({info.priority for info in made}) == 1
        assert await list_queues(one) == ["Q"]


async def test_a_delayed_item_reaches_its_queue(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        connection = client.connection
        due = Instant.now().plus(300_000_000)
        headers = encode_headers(
            {"Nats-Schedule": f"@at {due.rfc3339()}", "Nats-Schedule-Target": delay_fire_subject(queue, "id1")}
        )
        await connection.stored(delay_schedule_subject(queue, "id1"), b'{"kind":0,"job":"id1"}', headers=headers)
        found = await until(lambda: item_of(client, queue, "id1"))
        assert found.data == b'{"kind":0,"job":"id1"}'


async def test_purging_a_queue_takes_the_waiting_items_too(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        connection = client.connection
        due = Instant.now().plus(3600 * 10**9)
        headers = encode_headers(
            {"Nats-Schedule": f"@at {due.rfc3339()}", "Nats-Schedule-Target": delay_fire_subject(queue, "id1")}
        )
        await connection.stored(delay_schedule_subject(queue, "id1"), b"{}", headers=headers)
        await connection.stored(item_subject(queue, "id2"), b"{}")
        assert await purge_queue(connection, queue) == 2
        assert (await read_queue(connection, queue)).messages == 0
        await delete_queue(connection, queue)
        for call in (read_queue, purge_queue, delete_queue):
            with pytest.raises(NotFound, match=queue):
                await call(connection, queue)


async def test_an_existing_queue_is_taken_as_it_is(server: Any) -> None:
    async with queue_of(server, max_entries=3, max_tries=5) as (client, queue):
        info = await ensure_queue(client.connection, Queue(queue, max_entries=4, max_tries=5, priority=20))
        assert info.differences == ("max_entries is 3, not 4", "priority is 10, not 20")
        assert (info.max_entries, info.priority) == (3, 10)


async def test_a_consumer_alone_that_is_missing_is_made(server: Any) -> None:
    async with queue_of(server, max_entries=3) as (client, queue):
        connection = client.connection
        await connection.api(f"CONSUMER.DELETE.CHORIA_AJ_Q_{queue}.WORKERS")
        with pytest.raises(NotFound):
            await read_queue(connection, queue)
        info = await ensure_queue(connection, Queue(queue, max_concurrent=9))
        assert (info.max_entries, info.max_concurrent) == (3, 9)


async def test_settings_are_applied_field_by_field(server: Any) -> None:
    async with queue_of(server, max_entries=3, max_tries=5, backoff="1m") as (client, queue):
        connection = client.connection
        before = await read_queue(connection, queue)
        asked = Queue(
            queue, lease=5, max_concurrent=7, max_entries=0, max_age=60, priority=3, paused=True, when_full="reject"
        )
        after, changes = await apply_queue(connection, asked)
        assert {change.field for change in changes} == {
            "lease",
            "max_concurrent",
            "max_entries",
            "max_age",
            "priority",
            "paused",
        }
        assert differences(after, asked) == ()
        assert (after.max_tries, after.backoff, after.max_run_time_ns) == (5, "1m", before.max_run_time_ns)
        assert without(after.stream_config, "max_msgs", "max_age", "duplicate_window") == without(
            before.stream_config, "max_msgs", "max_age", "duplicate_window"
        )
        assert await apply_queue(connection, asked) == (after, ())


async def test_what_cannot_change_is_named(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        with pytest.raises(InvalidValue, match="storage"):
            await apply_queue(client.connection, Queue(queue, storage="memory"))
        with pytest.raises(StoreError):
            await apply_queue(client.connection, Queue(queue, replicas=3))


async def test_a_stream_of_that_name_that_is_no_work_queue(server: Any) -> None:
    name = unique()
    async with connected(server) as connection:
        config = {"name": f"CHORIA_AJ_Q_{name}", "subjects": [f"CHORIA_AJ.Q.{name}.>"], "retention": "limits"}
        await connection.api(f"STREAM.CREATE.CHORIA_AJ_Q_{name}", config)
        with pytest.raises(InvalidValue, match="retention"):
            await ensure_queue(connection, Queue(name))
        await delete_queue(connection, name)
