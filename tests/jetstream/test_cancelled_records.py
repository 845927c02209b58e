"""A record that somebody cancelled gets its time to live from a bridge, on a real server."""

from __future__ import annotations

from msgspec.structs import replace

import ajc
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.stored_message import last_message
from ajc.subjects import TASKS_STREAM, task_subject
from ajc.topology import ensure_stores
from ajc_bridge.clock import SystemClock
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.jetstream.census import JetStreamRecordScan
from ajc_bridge.jetstream.dead_letters import JetStreamDeadLetters
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.journal.journal import Journal
from ajc_bridge.pipeline import retention
from ajc_bridge.pipeline.rescue import OrphanedTasks
from ajc_bridge.ports import Ports

HOUR = 3600 * 1_000_000_000


async def test_a_cancelled_record_is_limited_and_can_still_be_cancelled_again(own_server, monkeypatch) -> None:
    monkeypatch.setattr(retention, "SETTLED_SECONDS", 0.0)
    connection = await Connection.open(ConnectOptions(servers=(own_server.url,)))
    try:
        await ensure_stores(connection, msg_ttl=True)
        async with ajc.connect(own_server.url) as client:
            await client.ensure_queue(ajc.Queue("Q"))
            task = await client.enqueue("a:b", 1, queue="Q")
            await client.cancel(task.id, "enough")
            before = await last_message(connection, TASKS_STREAM, task_subject(task.id))

            journal = Journal([])
            ports = Ports(
                store=JetStreamTaskStore(connection),
                delay=JetStreamDelayQueue(connection),
                letters=JetStreamDeadLetters(connection),
                exchange=NatsExchange(connection, journal),
                journal=journal,
                clock=SystemClock(),
            )
            policy = QueuePolicy("Q", retention={"terminated": HOUR})
            orphans = OrphanedTasks(ports, JetStreamRecordScan(connection))
            assert await orphans.look({"Q": policy}, {}) == 2  # read, and looked at
            limited = await last_message(connection, TASKS_STREAM, task_subject(task.id))
            assert limited.data == before.data
            assert b"\r\nNats-TTL: 3600s\r\n" in (limited.headers or b"")
            assert await orphans.look({"Q": policy}, {}) == 1  # its own save: read, and left alone
            assert await orphans.look({"Q": policy}, {}) == 0
            again = await client.cancel(task.id, "once more")
            assert again.last_err == "cancelled: enough"

            # and where such records are not kept at all, another bridge that begins removes one
            other = await client.enqueue("a:b", 2, queue="Q")
            await client.cancel(other.id)
            strict = replace(policy, retention={"terminated": 0})
            await OrphanedTasks(ports, JetStreamRecordScan(connection)).look({"Q": strict}, {})
            assert [left.id async for left in client.tasks()] == [task.id]
    finally:
        await connection.close()
