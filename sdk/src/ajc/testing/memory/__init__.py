"""What the bridge needs of a NATS server, in memory: for tests of code that works on the bridge's ports.

`MemoryServer` has all of them; each keeps the contract that `ajc_bridge.ports` states, and the bridge's own conformance
tests run against it as they run against a real server. Time is the event loop's, so under `ajc.testing.run_virtually`
leases, retries and retention pass at once. Nothing here talks to a network, and nothing is kept.

    server = MemoryServer(record=Record, lease=Lease, stranded=Stranded)     # the structs of ajc_bridge
    server.add_queue("EMAIL", lease_ns=30_000_000_000)
    server.exchange.answer("ajc.exec.email:new", ExecReply("success", body=b"sent"))
    server.enqueue(task)
"""

from ajc.testing.memory.delay import MemoryCensus, MemoryDelayQueue
from ajc.testing.memory.exchange import MemoryExchange, Script
from ajc.testing.memory.line import Line
from ajc.testing.memory.queue import MemoryQueue
from ajc.testing.memory.server import MemoryClock, MemoryServer
from ajc.testing.memory.store import MemoryDeadLetters, MemoryRecordScan, MemoryTaskStore
from ajc.testing.memory.values import MemoryLease, MemoryRecord, MemoryStranded
from ajc.testing.memory.work_queue import MemoryWorkQueue

__all__ = [
    "Line",
    "MemoryCensus",
    "MemoryClock",
    "MemoryDeadLetters",
    "MemoryDelayQueue",
    "MemoryExchange",
    "MemoryLease",
    "MemoryQueue",
    "MemoryRecord",
    "MemoryRecordScan",
    "MemoryServer",
    "MemoryStranded",
    "MemoryTaskStore",
    "MemoryWorkQueue",
    "Script",
]
