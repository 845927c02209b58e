"""Never run: mypy reads that the fake and the adapters are what `ajc_bridge.ports` asks for."""

from __future__ import annotations

from ajc.connection import Connection
from ajc.testing.memory import MemoryLease, MemoryRecord, MemoryServer, MemoryStranded
from ajc_bridge import ports
from ajc_bridge.decision.admission import Record
from ajc_bridge.jetstream.census import JetStreamCensus, JetStreamRecordScan
from ajc_bridge.jetstream.dead_letters import JetStreamDeadLetters
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue
from ajc_bridge.ports import Lease, Stranded


def the_fake(journal: ports.Journal) -> ports.Ports:
    server = MemoryServer(record=Record, lease=Lease, stranded=Stranded)
    queue: ports.WorkQueue = server.work_queue("Q")
    census: ports.Census = server.census("Q")
    scan: ports.RecordScan = server.scan()
    print(queue, census, scan)
    return ports.Ports(
        store=server.store,
        delay=server.delay,
        letters=server.letters,
        exchange=server.exchange,
        journal=journal,
        clock=server.clock,
    )


def the_adapters(connection: Connection, journal: ports.Journal, clock: ports.Clock) -> ports.Ports:
    store = JetStreamTaskStore(connection)
    queue: ports.WorkQueue = JetStreamWorkQueue(connection, "Q", 1)
    census: ports.Census = JetStreamCensus(connection, store, "Q")
    scan: ports.RecordScan = JetStreamRecordScan(connection)
    print(queue, census, scan)
    return ports.Ports(
        store=store,
        delay=JetStreamDelayQueue(connection),
        letters=JetStreamDeadLetters(connection),
        exchange=NatsExchange(connection, journal),
        journal=journal,
        clock=clock,
    )


def with_values_of_its_own() -> MemoryServer[MemoryRecord, MemoryLease, MemoryStranded]:
    return MemoryServer()
