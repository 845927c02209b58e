"""From an attempt to its reply: middleware, the handler, and what its result or exception says on the wire."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ajc.attempt import Attempt
from ajc.errors import Busy, InvalidValue, Retry, Terminate
from ajc.exchange import reply_headers
from ajc.json_value import encode_value
from ajc.payloads import Arguments, read_arguments
from ajc.subjects import check_type
from ajc.threads import Threads

DEFAULT_CONCURRENCY: Final = 10
_MOST_CONCURRENT: Final = 1_000_000

CallNext = Callable[..., Awaitable[Any]]
"""The rest of the way: `await call_next(attempt)` returns what the handler returns, or raises."""
Middleware = Callable[[Attempt, CallNext], Awaitable[Any]]


class Reply(msgspec.Struct, frozen=True):
    """What goes back: `headers` as a raw block (None for a result). `word` and `error` are for the log."""

    body: bytes = b""
    headers: bytes | None = None
    word: str = "success"
    error: BaseException | None = None


class Handler:
    """A registered function: `async def` runs on the loop, `def` in a thread. Raises `InvalidName`, `InvalidValue`."""

    def __init__(
        self,
        type: str,  # noqa: A002  (the word of the wire)
        function: Callable[..., Any],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        if not _is_limit(concurrency):
            raise InvalidValue("concurrency", concurrency, "is a whole number, 1 or more")
        self.type = check_type(type, catchall=True)
        self.function = function
        self.concurrency = concurrency
        self.arguments: Arguments = read_arguments(function, names)
        self.in_thread = not _is_async(function)
        self.running = 0
        self._threads = Threads(concurrency, f"ajc-{type}")

    async def call(self, attempt: Attempt) -> Any:
        """Run the function for this attempt and return its result; raises what it raises."""
        positional, keywords = self.arguments.of(attempt)
        if not self.in_thread:
            return await self.function(*positional, **keywords)
        context = contextvars.copy_context()
        running = self._threads.run(lambda: context.run(self.function, *positional, **keywords))
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            attempt.cancel()  # a thread cannot be stopped, only told
            if not attempt.interrupted:
                await _finished(running)  # its slot stays taken until it returns
            raise
        if inspect.isawaitable(result):
            return await result
        return result

    def close(self) -> None:
        """Let the threads end; one that hangs does not hold up the process's end."""
        self._threads.close()


async def answer(
    handler: Handler, attempt: Attempt, middleware: Sequence[Middleware], max_payload: int
) -> Reply | None:
    """Run an attempt to its reply; None when its deadline passed, so that no reply is due."""
    if attempt.remaining() <= 0:
        return None
    try:
        async with asyncio.timeout(attempt.remaining()) as limit:
            result = await chain(handler, middleware)(attempt)
    except TimeoutError as error:
        if limit.expired():
            attempt.cancel()
            return None
        return reply_to_exception(error)
    except asyncio.CancelledError as error:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        return reply_to_exception(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a handler raises is its answer)
        return reply_to_exception(error)
    if limit.expired():
        return None  # it went on through its cancellation
    return reply_to_result(result, max_payload)


def chain(handler: Handler, middleware: Sequence[Middleware]) -> CallNext:
    """Return the handler wrapped in the middleware, the first one outermost."""
    inner: CallNext = handler.call
    for layer in reversed(middleware):
        inner = _wrapped(layer, inner)
    return inner


def reply_to_result(result: Any, max_payload: int) -> Reply:
    """Return the reply with this result: bytes as they are, anything else as JSON."""
    try:
        body = bytes(result) if isinstance(result, (bytes, bytearray, memoryview)) else encode_value(result, "result")
    except InvalidValue as error:
        return reply_to_exception(Terminate(str(error)))
    if len(body) > max_payload:
        return reply_to_exception(Terminate(f"result of {len(body)} bytes exceeds {max_payload}"))
    return Reply(body)


def reply_to_exception(error: BaseException) -> Reply:
    """Return the reply that says this: `Terminate`, `Retry`, `Busy`; else failed, with its type and text."""
    if isinstance(error, Terminate):
        return Reply(b"", reply_headers(terminate=error.text), "terminate", error)
    if isinstance(error, Busy):
        return Reply(b"", reply_headers(busy=error.text, retry_after_ms=error.after_ms), "busy", error)
    if isinstance(error, Retry):
        return Reply(b"", reply_headers(error=error.text, retry_after_ms=error.after_ms), "retry", error)
    return Reply(b"", reply_headers(error=_told(error)), "error", error)


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_CONCURRENT


def _told(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (an exception whose text raises)
        text = ""
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


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
