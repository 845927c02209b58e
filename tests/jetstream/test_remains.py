"""What a killed server brings back is removed again, and nothing else."""

from __future__ import annotations

from contextlib import asynccontextmanager

from jetstream_world import until

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.instant import SECOND, Instant
from ajc.queue import Queue
from ajc.stored_message import StoredMessage
from ajc.subjects import DELAY_STREAM, item_subject
from ajc.topology import ensure_queue
from ajc.work_item import WorkItem
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.remains import Remains, is_overdue
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue

MANY = 300


@asynccontextmanager
async def connected(server):
    connection = await Connection.open(ConnectOptions(servers=(server.url,)))
    try:
        yield connection
    finally:
        await connection.close()


async def messages(connection: Connection, stream: str, subject: str = ">") -> int:
    info = await connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    return sum((info["state"].get("subjects") or {}).values())


async def test_what_a_killed_server_brings_back_is_removed(own_server) -> None:
    stream = "CHORIA_AJ_Q_BACK"
    async with connected(own_server) as connection:
        await ensure_queue(connection, Queue("BACK", lease=5, max_concurrent=-1))
        queue = JetStreamWorkQueue(connection, "BACK", 5 * SECOND)
        leases = []
        await queue.start(leases.append)
        delay = JetStreamDelayQueue(connection)
        for number in range(MANY):
            item = WorkItem(task_id=f"task{number}")
            await connection.stored(item_subject("BACK", item.task_id), item.encode())
            # a schedule that is replaced, by one that fires at once
            await delay.schedule("BACK", f"later{number}", Instant.now().plus(3600 * SECOND), item)
            await delay.schedule("BACK", f"later{number}", Instant.now(), WorkItem(task_id=f"later{number}"))
        while len(leases) < 2 * MANY:
            await queue.pull(MANY, 5.0, leases.append)
        for lease in leases:
            queue.ack(lease)

        async def all_acked() -> bool:
            return await messages(connection, stream) == 0 and await messages(connection, DELAY_STREAM) == 0

        await until(all_acked)
        await queue.stop()
    own_server.stop()
    own_server.start()
    async with connected(own_server) as connection:
        await connection.stored(item_subject("BACK", "waits"), WorkItem(task_id="waits").encode())
        later = Instant.now().plus(3600 * SECOND)
        await JetStreamDelayQueue(connection).schedule("BACK", "scheduled", later, WorkItem(task_id="scheduled"))

        async def only_what_waits() -> bool:
            # sourcing goes on some seconds after a restart, and may bring its last ones once more: cleared again
            await Remains(connection, "BACK").clear()
            consumer = await connection.api(f"CONSUMER.INFO.{stream}.WORKERS")
            floor = consumer["ack_floor"]["stream_seq"]
            info = await connection.api(f"STREAM.INFO.{stream}")
            return info["state"]["first_seq"] > floor

        await until(only_what_waits)
        kept = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": item_subject("BACK", "waits")})
        assert kept["message"]["subject"] == item_subject("BACK", "waits")
        assert await messages(connection, DELAY_STREAM, "CHORIA_AJ.D.S.BACK.scheduled") == 1


async def test_a_schedule_long_past_its_time_is_removed_and_no_other(own_server) -> None:
    async with connected(own_server) as connection:
        await ensure_queue(connection, Queue("OVERDUE"))
        delay = JetStreamDelayQueue(connection)
        now = Instant.now()
        await delay.schedule("OVERDUE", "soon", now.plus(1800 * SECOND), WorkItem(task_id="soon"))
        await delay.schedule("OVERDUE", "later", now.plus(7200 * SECOND), WorkItem(task_id="later"))
        # as seen an hour from now, minus the patience: the first is long past, the second is not
        remains = Remains(connection, "OVERDUE", overdue_ns=-3600 * SECOND)
        assert await remains.clear() == 1
        assert await messages(connection, DELAY_STREAM, "CHORIA_AJ.D.S.OVERDUE.soon") == 0
        assert await messages(connection, DELAY_STREAM, "CHORIA_AJ.D.S.OVERDUE.later") == 1
        assert await remains.clear() == 0


async def test_a_queue_that_is_gone_has_no_remains(server) -> None:
    async with connected(server) as connection:
        assert await Remains(connection, "NEVER_MADE").clear() == 0


def test_what_is_no_schedule_is_never_overdue() -> None:
    now = Instant.now()
    for headers in (None, b"none", b"NATS/1.0\r\nNats-Schedule: @every 1s\r\n\r\n"):
        assert not is_overdue(StoredMessage("S.a", 1, b"", headers, now), now)
