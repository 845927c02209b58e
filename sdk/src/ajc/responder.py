"""The answering side: `app = ajc.Responder()`, handlers for task types, `app.run()`.

A responder subscribes to `<prefix>.<type>` in the queue group `ajc` for each handler and answers each request once:
what a handler returns is the result, what it raises says what to do. At its limit of concurrency a handler answers
busy, at once, so that another responder gets the task.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, State
from ajc.context import describe, resolve
from ajc.errors import AlreadyExists, Closed, InvalidValue
from ajc.handlers import DEFAULT_CONCURRENCY, Handler, Middleware
from ajc.queue import Duration
from ajc.serving import Serving
from ajc.subjects import EXEC_PREFIX, RESPONDER_GROUP, exec_subject

_logger: Final = logging.getLogger("ajc.responder")
_F = TypeVar("_F", bound=Callable[..., Any])
_M = TypeVar("_M", bound=Middleware)
_DRAIN_SECONDS: Final = 30.0


class Responder:
    """Handlers for task types, on one connection that comes back by itself for ever.

    Where to connect: as `ajc.connect`. `prefix` is the bridge's `exec.prefix`. `drain` (timedelta or seconds) is how
    long running handlers get to finish once the responder is told to end.
    """

    def __init__(
        self,
        server: str | Sequence[str] | None = None,
        *,
        context: str | None = None,
        name: str = "ajc-responder",
        prefix: str = EXEC_PREFIX,
        drain: Duration = _DRAIN_SECONDS,
    ) -> None:
        self._server = server
        self._context = context
        self._name = name
        self._prefix = prefix
        self._drain = drain if isinstance(drain, (int, float)) else drain.total_seconds()
        if self._drain < 0:
            raise InvalidValue("drain", drain, "is 0 or more")
        self.handlers: dict[str, Handler] = {}
        self._middleware: list[Middleware] = []
        self._ending: asyncio.Event | None = None
        self._closed: BaseException | None = None
        self._seeking = False
        self.interrupted = False

    def handler(
        self,
        type: str,  # noqa: A002  (the word of the wire)
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> Callable[[_F], _F]:
        """Register the decorated function for a task type: `async def`, or a plain `def`, which runs in a thread.

        At most `concurrency` attempts run at a time; a further one is answered busy. Its parameters say what it
        gets: the `Attempt`, the `Task`, or the payload as a type (a msgspec struct, a dataclass, a pydantic model,
        …), checked. It returns the result: bytes, or any JSON value. Raises `InvalidName`, `InvalidValue` (a
        signature that cannot be served), `AlreadyExists`.
        """
        names = {**sys._getframe(1).f_locals}  # noqa: SLF001  (annotations may name the caller's local classes)

        def register(function: _F) -> _F:
            if type in self.handlers:
                raise AlreadyExists("handler", type)
            self.handlers[type] = Handler(type, function, concurrency=concurrency, names=names)
            return function

        return register

    def middleware(self, function: _M) -> _M:
        """Wrap every handler in the decorated `async def (attempt, call_next)`; the first one is outermost."""
        self._middleware.append(function)
        return function

    def run(self, server: str | Sequence[str] | None = None, *, context: str | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then finish what runs; a second signal ends at once.

        `server` and `context` take the place of the constructor's.
        Raises `NotFound` and `InvalidValue` (no such context), `Closed` (refused, or closed for good).
        """
        if server is not None or context is not None:
            self._server, self._context = server, context
        asyncio.run(self._run_with_signals())

    async def serve(self, *, started: Callable[[], None] | None = None) -> None:
        """Serve until `stop` is called or this is cancelled, then finish what runs.

        `started` is called once it is subscribed. Raises as `run`.
        """
        if not self.handlers:
            raise InvalidValue("handlers", 0, "register one with @app.handler(type)")
        ending = self._ending = asyncio.Event()
        options = resolve(self._server, self._context)
        _logger.info("connecting to %s", describe(self._server, self._context))
        connection = await self._open(options, ending)
        if connection is None:
            self._ending = None
            return
        serving = Serving(connection, list(self.handlers.values()), self._middleware)
        try:
            for task_type, handler in self.handlers.items():
                subject = exec_subject(self._prefix, task_type)
                await serving.subscribe(subject, handler, RESPONDER_GROUP)
            await connection.flush()
            _logger.info("serving %s", ", ".join(sorted(self.handlers)))
            if started is not None:
                started()
            await ending.wait()
        finally:
            try:
                await serving.drain(self._drain)
            finally:
                await connection.close()
                self._ending = None
        if self._closed is not None:
            raise Closed(f"the connection to NATS is closed for good: {self._closed}")

    def stop(self) -> None:
        """Make `serve` end: no new attempts, running ones finish. To be called on its loop."""
        if self._ending is not None:
            self._ending.set()

    async def _open(self, options: ConnectOptions, ending: asyncio.Event) -> Connection | None:
        """Connect, however long that takes; None when it is told to end before there is a server."""
        self._seeking = True
        opening = asyncio.ensure_future(
            Connection.open(options, name=self._name, on_state=self._state_changed, wait_for_server=True)
        )
        ended = asyncio.ensure_future(ending.wait())
        try:
            await asyncio.wait((opening, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._seeking = False
            ended.cancel()
            if not opening.done():
                opening.cancel()
                await asyncio.wait((opening,))
        return None if opening.cancelled() else opening.result()

    def _state_changed(self, state: State, error: BaseException | None) -> None:
        if state == "disconnected":
            _logger.warning("the connection to NATS broke; trying again")
        elif state == "reconnected":
            _logger.info("connected to NATS again")
        elif state == "closed" and self._ending is not None and not self._ending.is_set():
            self._closed = error or Closed()
            self._ending.set()
        elif self._seeking and error is not None:
            self._seeking = False  # once is enough: the next tries fail alike
            _logger.warning("cannot connect; trying again: %s", str(error) or type(error).__name__)
        elif error is not None:
            _logger.debug("NATS: %s", error)  # each failed try to connect among them

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        serving = loop.create_task(self.serve())
        signals = 0

        def signalled() -> None:
            nonlocal signals
            signals += 1
            if signals == 1 and self._ending is not None and not self._ending.is_set():
                _logger.info("ending: what runs gets %g s to finish", self._drain)
                self.stop()
            else:
                self.interrupted = True
                serving.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        try:
            await serving
        except asyncio.CancelledError:
            if not signals:
                raise
