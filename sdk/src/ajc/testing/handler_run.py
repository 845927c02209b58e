"""A handler called as a responder calls it, without any server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from ajc.attempt import Attempt
from ajc.errors import TaskTimeout, Terminate
from ajc.exchange import ExecRequest
from ajc.handlers import Handler, Middleware, chain
from ajc.instant import Instant
from ajc.queue import NANOSECONDS, Duration, nanoseconds
from ajc.replies import fitting, reply_to_result
from ajc.service import Endpoint
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
    progress: list[tuple[float | None, str]] | None = None,
    cancel_after: Duration | None = None,
    cancel_reason: str = "",
    traceparent: str | None = None,
) -> Any:
    """Call a handler with this payload and return what it returns, or raise what it raises.

    Everything is as with a responder: the payload goes through JSON, is decoded into the type that the handler asks
    for (`Terminate` when it does not fit), a result that cannot be sent is a `Terminate`, and `TaskTimeout` is
    raised when `timeout` (timedelta or seconds) passes.

    Every report of progress is appended to `progress`, as (percent, message). `cancel_after` (timedelta or seconds)
    cancels the task so long after the start: an `async def` handler is cancelled, a plain one sees
    `attempt.cancelled`, and once it has ended `Terminate("cancelled: <reason>")` is raised, as a responder answers;
    one that goes on all the same ends in `TaskTimeout`. Works inside a running event loop too; there `await arun(…)`
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
        progress=progress,
        cancel_after=cancel_after,
        cancel_reason=cancel_reason,
        traceparent=traceparent,
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
    progress: list[tuple[float | None, str]] | None = None,
    cancel_after: Duration | None = None,
    cancel_reason: str = "",
    traceparent: str | None = None,
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
        heartbeat_subject="ajc.beat.testing.run",
        traceparent=traceparent,
        body=task.encode(),
    )
    registered = Handler(type, handler)
    endpoint = Endpoint(registered, "", "")
    endpoint.clock = Listening([] if progress is None else progress)
    attempt = Attempt(request.timeout_ms, request.headers(), request.body, endpoint)
    loop = asyncio.get_running_loop()
    attempt.runner = running = loop.create_task(_call(registered, middleware, attempt))
    running.add_done_callback(
        lambda ended: ended.cancelled() or ended.exception()
    )  # one that nobody waits for any more
    if cancel_after is not None:
        loop.call_later((nanoseconds(cancel_after) or 0) / NANOSECONDS, attempt.stop, "cancelled", cancel_reason)
    try:
        return await asyncio.wait_for(asyncio.shield(running), limit / NANOSECONDS)
    except TimeoutError:
        if running.done():
            raise  # the handler's own
        attempt.stop("ending")
        raise TaskTimeout(task.id, limit / NANOSECONDS) from None
    finally:
        running.cancel()
        registered.close()


class Listening:
    """In the place of a responder's clock: every report is kept, none is held back."""

    def __init__(self, reports: list[tuple[float | None, str]]) -> None:
        self._reports = reports

    def say(self, attempt: Attempt, said: dict[str, Any]) -> None:
        """Keep this one."""
        del attempt
        self._reports.append((said.get("percent"), said.get("message", "")))


async def _call(handler: Handler, middleware: Sequence[Middleware], attempt: Attempt) -> Any:
    try:
        result = await chain(handler, middleware)(attempt)
    except BaseException:
        if attempt.stopped == "cancelled":
            raise Terminate(attempt.cancel_reason) from None
        raise
    if attempt.stopped == "cancelled":
        raise Terminate(attempt.cancel_reason)
    reply = fitting(reply_to_result(result), _MAX_PAYLOAD)
    if isinstance(reply.error, Terminate):
        raise reply.error
    return result
