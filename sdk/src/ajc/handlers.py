"""From an attempt to what its handler returns or raises: the middleware, the arguments, a thread where it blocks."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from ajc.attempt import Attempt
from ajc.errors import InvalidValue
from ajc.payloads import Arguments, read_arguments
from ajc.subjects import check_type
from ajc.threads import Threads

DEFAULT_CONCURRENCY: Final = 10
_MOST_CONCURRENT: Final = 1_000_000

CallNext = Callable[..., Awaitable[Any]]
"""The rest of the way: `await call_next(attempt)` returns what the handler returns, or raises."""
Middleware = Callable[[Attempt, CallNext], Awaitable[Any]]


class Handler:
    """A registered function: `async def` runs on the loop, `def` in a thread. Raises `InvalidName`, `InvalidValue`."""

    def __init__(
        self,
        type: str,  # noqa: A002  (the word of the wire)
        function: Callable[..., Any],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        timeout: float | None = None,
        heartbeat: bool = True,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        if not _is_limit(concurrency):
            raise InvalidValue("concurrency", concurrency, "is a whole number, 1 or more")
        if timeout is not None and not timeout > 0:
            raise InvalidValue("timeout", timeout, "is more than 0, or None for no limit of the handler's own")
        self.type = check_type(type, catchall=True)
        self.function = function
        self.concurrency = concurrency
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.arguments: Arguments = read_arguments(function, names)
        self.in_thread = not _is_async(function)
        self.running = 0
        self._threads = Threads(concurrency, f"ajc-{type}")

    def call(self, attempt: Attempt) -> Awaitable[Any]:
        """Run the function for this attempt: an awaitable of its result, which raises what it raises."""
        if not self.in_thread:
            returned: Awaitable[Any] = self.arguments.call(self.function, attempt)
            return returned
        return self._call_in_thread(attempt)

    def direct_call(self) -> CallNext:
        """Return what does as `call`, and is the function itself where it wants no more than the attempt."""
        return self.function if not self.in_thread and self.arguments.attempt_alone else self.call

    async def _call_in_thread(self, attempt: Attempt) -> Any:
        context = contextvars.copy_context()
        running = self._threads.run(lambda: context.run(self.arguments.call, self.function, attempt))
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            if not attempt.interrupted:
                await _finished(running)  # a thread cannot be stopped, only told; its slot stays taken until it returns
            raise
        if inspect.isawaitable(result):
            return await result
        return result

    def close(self) -> None:
        """Let the threads end; one that hangs does not hold up the process's end."""
        self._threads.close()


def chain(handler: Handler, middleware: Sequence[Middleware]) -> CallNext:
    """Return the handler wrapped in the middleware, the first one outermost."""
    inner = handler.direct_call()
    for layer in reversed(middleware):
        inner = _wrapped(layer, inner)
    return inner


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_CONCURRENT


def _wrapped(layer: Middleware, inner: CallNext) -> CallNext:
    async def call(attempt: Attempt) -> Any:
        async def call_next(changed: Attempt | None = None) -> Any:
            return await inner(attempt if changed is None else changed)

        return await layer(attempt, call_next)

    return call


async def _finished(running: asyncio.Future[Any]) -> None:
    """Wait for a thread through every further cancellation but the loop's end."""
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            return
    if not running.cancelled():
        running.exception()


def _is_async(function: Callable[..., Any]) -> bool:
    called = inspect.unwrap(function)
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None))  # noqa: B004
