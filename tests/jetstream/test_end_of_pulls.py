"""A queue that takes no more in: what is given back then goes to others, and what was on its way is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.instant import SECOND
from ajc.queue import Queue
from ajc.subjects import item_subject
from ajc.topology import ensure_queue
from ajc.work_item import WorkItem
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue

if TYPE_CHECKING:
    from ajc_bridge.ports import Lease

LEASE = 30


@asynccontextmanager
async def queue_of(connection: Connection, name: str) -> AsyncIterator[tuple[JetStreamWorkQueue, list[Lease]]]:
    queue = JetStreamWorkQueue(connection, name, LEASE * SECOND)
    late: list[Lease] = []
    await queue.start(late.append)
    try:
        yield queue, late
    finally:
        await queue.stop()


@asynccontextmanager
async def connected(server) -> AsyncIterator[Connection]:
    connection = await Connection.open(ConnectOptions(servers=(server.url,)))
    try:
        yield connection
    finally:
        await connection.close()


async def test_what_is_given_back_does_not_come_to_the_pull_that_is_still_under_way(server) -> None:
    async with connected(server) as connection, connected(server) as other:
        await ensure_queue(connection, Queue("ENDING", lease=LEASE, max_run_time=60))
        async with queue_of(connection, "ENDING") as (ending, late), queue_of(other, "ENDING") as (heir, _):
            await connection.stored(item_subject("ENDING", "one"), WorkItem(task_id="one").encode())
            got: list[Lease] = []
            assert await ending.pull(1, 5.0, got.append) == 1
            pulling = asyncio.ensure_future(ending.pull(1, 20.0, got.append))
            async with asyncio.timeout(10):
                while not (await other.api("CONSUMER.INFO.CHORIA_AJ_Q_ENDING.WORKERS"))["num_waiting"]:
                    await asyncio.sleep(0.005)
            await ending.quiet()
            ending.nak(got[0])
            await connection.flush()
            inherited: list[Lease] = []
            assert await heir.pull(1, 10.0, inherited.append) == 1
            assert (inherited[0].subject_id, inherited[0].deliveries) == ("one", 2)
            assert (len(got), late) == (1, [])
            heir.ack(inherited[0])
            pulling.cancel()
            await asyncio.wait({pulling})


async def all_delivered(url: str, stream: str, count: int) -> None:
    async with asyncio.timeout(10):
        connection = await Connection.open(ConnectOptions(servers=(url,)))
        while (await connection.api(f"CONSUMER.INFO.{stream}.WORKERS"))["num_ack_pending"] < count:
            await asyncio.sleep(0.005)
        await connection.close()


async def test_what_the_server_had_sent_is_handed_over_first(server) -> None:
    async with connected(server) as connection:
        await ensure_queue(connection, Queue("HALFWAY", lease=LEASE, max_run_time=60))
        for number in range(100):
            item = WorkItem(task_id=f"t{number}")
            await connection.stored(item_subject("HALFWAY", item.task_id), item.encode())
        async with queue_of(connection, "HALFWAY") as (queue, late):
            got: list[Lease] = []
            pulling = asyncio.ensure_future(queue.pull(100, 5.0, got.append))
            await asyncio.sleep(0)  # the pull is handed over,
            await asyncio.sleep(0)  # and sent,
            with ThreadPoolExecutor(1) as pool:  # and the loop stands still: what the server sends lies in the socket
                pool.submit(asyncio.run, all_delivered(server.url, "CHORIA_AJ_Q_HALFWAY", 100)).result()
            assert got == []
            await queue.quiet()
            pulling.cancel()
            await asyncio.wait({pulling})
    assert len(got) + len(late) == 100


async def test_without_a_server_it_ends_in_a_moment(own_server) -> None:
    async with connected(own_server) as connection:
        await ensure_queue(connection, Queue("GONE", lease=LEASE, max_run_time=60))
        async with queue_of(connection, "GONE") as (queue, _):
            own_server.stop()
            async with asyncio.timeout(10):
                while connection.connected:
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                await queue.quiet()
        own_server.start()
        async with asyncio.timeout(20):
            await connection.wait_connected()
