"""Background tasks on NATS JetStream: enqueue them, and answer them.

    async with ajc.connect() as client:
        task = await client.enqueue("email:new", {"to": "x@example.net"}, queue="EMAIL")
        done = await client.result(task.id, timeout=30)

    app = ajc.Responder()

    @app.handler("email:new", concurrency=10)
    async def send(attempt: ajc.Attempt) -> None: ...

    app.run()

`connect_sync` is the same client for code that is not async; `ajc.testing` is for your own tests; `ajc.errors` draws
the tree of errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ajc import errors, testing
    from ajc.attempt import Attempt
    from ajc.client import Client, connect
    from ajc.dead_letters import DeadLetter
    from ajc.errors import (
        AjcError,
        AlreadyExists,
        Busy,
        Closed,
        Conflict,
        HandlerSignal,
        InvalidName,
        InvalidValue,
        Malformed,
        MalformedTask,
        NoResponders,
        NotFound,
        NotPermitted,
        QueueFull,
        RequestTimeout,
        Retry,
        SignatureError,
        StoreError,
        TaskFailed,
        TaskTimeout,
        Terminate,
        TooLarge,
        Unavailable,
    )
    from ajc.events import Event, LeaderElected, TaskStateChanged
    from ajc.instant import Instant
    from ajc.making_tasks import new_task
    from ajc.progress import TaskProgressed
    from ajc.queue import Queue, QueueInfo
    from ajc.responder import Responder
    from ajc.result import Result
    from ajc.sync import SyncClient, connect_sync
    from ajc.task import FINAL_STATES, Task, TaskState
    from ajc.watch import Watch

__all__ = [
    "FINAL_STATES",
    "AjcError",
    "AlreadyExists",
    "Attempt",
    "Busy",
    "Client",
    "Closed",
    "Conflict",
    "DeadLetter",
    "Event",
    "HandlerSignal",
    "Instant",
    "InvalidName",
    "InvalidValue",
    "LeaderElected",
    "Malformed",
    "MalformedTask",
    "NoResponders",
    "NotFound",
    "NotPermitted",
    "Queue",
    "QueueFull",
    "QueueInfo",
    "RequestTimeout",
    "Responder",
    "Result",
    "Retry",
    "SignatureError",
    "StoreError",
    "SyncClient",
    "Task",
    "TaskFailed",
    "TaskProgressed",
    "TaskState",
    "TaskStateChanged",
    "TaskTimeout",
    "Terminate",
    "TooLarge",
    "Unavailable",
    "Watch",
    "connect",
    "connect_sync",
    "errors",
    "new_task",
    "testing",
]

_HOMES = {
    "FINAL_STATES": "task",
    "Attempt": "attempt",
    "Client": "client",
    "DeadLetter": "dead_letters",
    "Event": "events",
    "Instant": "instant",
    "LeaderElected": "events",
    "Queue": "queue",
    "QueueInfo": "queue",
    "Responder": "responder",
    "Result": "result",
    "SyncClient": "sync",
    "Task": "task",
    "TaskProgressed": "progress",
    "TaskState": "task",
    "TaskStateChanged": "events",
    "Watch": "watch",
    "connect": "client",
    "connect_sync": "sync",
    "new_task": "making_tasks",
}


if not TYPE_CHECKING:  # else every name would pass for one of ours

    def __getattr__(name: str) -> Any:
        # Names are imported when they are first used: pytest loads `ajc.testing`, and with it this module, in every
        # project that has the package.
        from importlib import import_module  # noqa: PLC0415

        if name in ("errors", "testing"):
            return import_module(f"ajc.{name}")
        if name in __all__:
            value = globals()[name] = getattr(import_module(f"ajc.{_HOMES.get(name, 'errors')}"), name)
            return value
        raise AttributeError(f"module 'ajc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
