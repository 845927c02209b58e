"""A process that was stopped longer than a lease: what lay in its socket meanwhile is no longer its own."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.queue import Queue
from ajc.subjects import item_subject
from ajc.topology import ensure_queue
from ajc.work_item import WorkItem
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue

if TYPE_CHECKING:
    from ajc_bridge.ports import Lease

LEASE = 0.5


async def test_an_item_that_lay_in_the_socket_longer_than_its_lease_is_not_begun(server) -> None:
    options = ConnectOptions(servers=(server.url,))
    producer = await Connection.open(options)
    bridge = await Connection.open(options)
    name = f"STOPPED_{time.time_ns()}"
    await ensure_queue(producer, Queue(name, lease=LEASE, max_run_time=60))
    queue = JetStreamWorkQueue(bridge, name, int(LEASE * 1e9))
    begun: list[Lease] = []
    await queue.start(begun.append)
    pulling = asyncio.create_task(queue.pull(1, 5.0, begun.append))
    await bridge.flush()
    # published by another thread's loop, since this one is about to stand still
    sending = asyncio.create_task(asyncio.to_thread(_publish, server.url, name))
    await asyncio.sleep(0)
    time.sleep(3 * LEASE)  # what SIGSTOP does to a loop
    await sending
    assert await pulling == 1
    assert begun == []
    # the server ended that lease: the item comes again, and is begun
    assert await queue.pull(1, 5.0, begun.append) == 1
    (lease,) = begun
    assert lease.deliveries == 2
    assert lease.until > asyncio.get_running_loop().time()
    queue.ack(lease)
    await queue.stop()
    await bridge.close()
    await producer.close()


def _publish(url: str, queue: str) -> None:
    async def send() -> None:
        connection = await Connection.open(ConnectOptions(servers=(url,)))
        await connection.stored(item_subject(queue, "t1"), WorkItem(task_id="t1").encode())
        await connection.close()

    asyncio.run(send())
