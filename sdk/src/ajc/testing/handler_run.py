"""A handler called as a responder calls it, without any server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from ajc.attempt import Attempt
from ajc.errors import TaskTimeout, Terminate
from ajc.exchange import ExecRequest
from ajc.handlers import Handler, Middleware, chain, reply_to_result
from ajc.instant import Instant
from ajc.queue import NANOSECONDS, Duration, nanoseconds
from ajc.subjects import DEFAULT_QUEUE
from ajc.task import Task, TaskState

_MAX_PAYLOAD: Final = 1 << 20


def run(
    handler: Callable[..., Any],
    payload: Any = None,
    *,
    type: str = "test",  # noqa: A002  (the word of the wire)
    id: str | None = None,  # noqa: A002  (likewise)
    queue: str = DEFAULT_QUEUE,
    try_number: int = 1,
    max_tries: int = 10,
    timeout: Duration = 60.0,
    middleware: Sequence[Middleware] = (),
) -> Any:
    """Call a handler with this payload and return what it returns, or raise what it raises.

    Everything is as with a responder: the payload goes through JSON, is decoded into the type that the handler asks
    for (`Terminate` when it does not fit), a result that cannot be sent is a `Terminate`, and `TaskTimeout` is
    raised when `timeout` (timedelta or seconds) passes. Works inside a running event loop too; there `await arun(…)`
    runs the handler on that loop.
    """
    work = arun(
        handler,
        payload,
        type=type,
        id=id,
        queue=queue,
        try_number=try_number,
        max_tries=max_tries,
        timeout=timeout,
        middleware=middleware,
    )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def in_thread() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  (it is raised where run was called)
            failure.append(error)

    thread = threading.Thread(target=in_thread, name="ajc-testing-run")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


async def arun(
    handler: Callable[..., Any],
    payload: Any = None,
    *,
    type: str = "test",  # noqa: A002  (the word of the wire)
    id: str | None = None,  # noqa: A002  (likewise)
    queue: str = DEFAULT_QUEUE,
    try_number: int = 1,
    max_tries: int = 10,
    timeout: Duration = 60.0,
    middleware: Sequence[Middleware] = (),
) -> Any:
    """Do as `run` on the running event loop."""
    now = Instant.now()
    limit = nanoseconds(timeout) or 0
    task = Task.create(type, payload, id=id, queue=queue, max_tries=max_tries, created=now)
    task = task.replace(state=str(TaskState.ACTIVE), tries=try_number, tried=now)
    request = ExecRequest(
        task_id=task.id,
        type=type,
        queue=queue,
        try_number=try_number,
        max_tries=max_tries,
        deadline=now.plus(limit),
        timeout_ms=limit // 1_000_000,
        body=task.encode(),
    )
    attempt = Attempt(request, Task.decode(request.body))
    registered = Handler(type, handler)
    try:
        async with asyncio.timeout(limit / NANOSECONDS) as passing:
            result = await chain(registered, middleware)(attempt)
    except TimeoutError:
        if not passing.expired():
            raise
        raise TaskTimeout(task.id, limit / NANOSECONDS) from None
    finally:
        registered.close()
    reply = reply_to_result(result, _MAX_PAYLOAD)
    if isinstance(reply.error, Terminate):
        raise reply.error
    return result
