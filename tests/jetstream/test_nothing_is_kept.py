"""What concerns a delivery is never kept for later: pulls, acks and renewals without a server are not sent at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import Unavailable
from ajc.instant import SECOND
from ajc.queue import Queue
from ajc.subjects import item_subject
from ajc.topology import ensure_queue
from ajc.work_item import WorkItem
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue

if TYPE_CHECKING:
    from ajc_bridge.ports import Lease

LEASE = 8


async def test_pulls_acks_and_renewals_without_a_server_are_not_sent_when_it_is_back(own_server) -> None:
    connection = await Connection.open(ConnectOptions(servers=(own_server.url,)))
    await ensure_queue(connection, Queue("AWAY", lease=LEASE, max_run_time=60))
    for number in range(6):
        item = WorkItem(task_id=f"t{number}")
        await connection.stored(item_subject("AWAY", item.task_id), item.encode())
    queue = JetStreamWorkQueue(connection, "AWAY", LEASE * SECOND)
    unasked: list[Lease] = []
    taken: list[Lease] = []
    await queue.start(unasked.append)
    assert await queue.pull(2, 5.0, taken.append) == 2

    own_server.stop()
    async with asyncio.timeout(10):
        while connection.connected:
            await asyncio.sleep(0.01)
    pulling = [queue.pull(2, 0.0, unasked.append)]
    with pytest.raises(Unavailable):
        await pulling[0]
    queue.ack(taken[0])
    queue.nak(taken[1])
    with pytest.raises(Unavailable):
        await queue.renew(taken[1])
    own_server.start()

    async with asyncio.timeout(20):
        await connection.wait_connected()
    await connection.flush()
    info = await connection.api("CONSUMER.INFO.CHORIA_AJ_Q_AWAY.WORKERS")
    assert info["num_waiting"] == 0
    assert unasked == []
    # the item acked without a server is there still, and comes again when its lease is over
    stored = await connection.api("STREAM.INFO.CHORIA_AJ_Q_AWAY")
    assert stored["state"]["messages"] == 6
    again: list[Lease] = []
    async with asyncio.timeout(4 * LEASE):
        while len(again) < 6:
            await queue.pull(6, 1.0, again.append)
    assert {lease.subject_id for lease in again} == {f"t{number}" for number in range(6)}
    await queue.stop()
    await connection.close()
