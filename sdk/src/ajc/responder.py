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
from datetime import timedelta
from typing import Any, Final, TypeVar

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, State
from ajc.context import describe, resolve
from ajc.errors import AlreadyExists, Closed, InvalidValue
from ajc.handlers import DEFAULT_CONCURRENCY, Handler, Middleware
from ajc.queue import Duration
from ajc.replies import ERRORS_TOLD, ErrorsTold
from ajc.service import DEFAULT_VERSION, Endpoint, Service, check_version
from ajc.serving import Serving
from ajc.subjects import EXEC_PREFIX, RESPONDER_GROUP, exec_subject

_logger: Final = logging.getLogger("ajc.responder")
_F = TypeVar("_F", bound=Callable[..., Any])
_M = TypeVar("_M", bound=Middleware)
_DRAIN_SECONDS: Final = 30.0


class Responder:
    """Handlers for task types, on one connection that comes back by itself for ever.

    Where to connect: as `ajc.connect`. `prefix` is the bridge's `exec.prefix`. `drain` (timedelta or seconds) is how
    long running handlers get to finish once the responder is told to end. `name`, `version` (semantic, `1.2.3`) and
    `description` are what it is found under as a NATS service. `errors` says what of an exception that a handler did
    not mean as an answer is told to the bridge, and stored with the task: its type and message, or with `type` its
    type alone; the trace goes to the log only.
    """

    def __init__(
        self,
        server: str | Sequence[str] | None = None,
        *,
        context: str | None = None,
        name: str = "ajc-responder",
        prefix: str = EXEC_PREFIX,
        drain: Duration = _DRAIN_SECONDS,
        version: str = DEFAULT_VERSION,
        description: str = "",
        errors: ErrorsTold = "message",
    ) -> None:
        self._server = server
        self._context = context
        self._name = name
        self._prefix = prefix
        self._drain = drain if isinstance(drain, (int, float)) else drain.total_seconds()
        if self._drain < 0:
            raise InvalidValue("drain", drain, "is 0 or more")
        self._version = check_version(version)
        self._description = description
        if errors not in ERRORS_TOLD:
            raise InvalidValue("errors", errors, "is message or type")
        self._errors: ErrorsTold = errors
        self.handlers: dict[str, Handler] = {}
        self._middleware: list[Middleware] = []
        self._ending: asyncio.Event | None = None
        self._closed: BaseException | None = None
        self._seeking = False
        self._hidden = False
        self.interrupted = False

    def handler(
        self,
        type: str,  # noqa: A002  (the word of the wire)
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        timeout: Duration | None = None,
        heartbeat: bool = True,
    ) -> Callable[[_F], _F]:
        """Register the decorated function for a task type: `async def`, or a plain `def`, which runs in a thread.

        At most `concurrency` attempts run at a time; a further one is answered busy. Its parameters say what it
        gets: the `Attempt`, the `Task`, or the payload as a type (a msgspec struct, a dataclass, a pydantic model,
        …), checked. It returns the result: bytes, or any JSON value.

        While it runs the responder sends heartbeats for it, so that an attempt may last longer than the queue's run
        time and a responder that is gone is noticed soon. They say that the process lives, not that the work gets on:
        `timeout` (timedelta or seconds) is the most that an attempt may take in all, and with `heartbeat=False`
        nothing but `attempt.progress` sends any. Raises `InvalidName`, `InvalidValue` (a signature that cannot be
        served), `AlreadyExists`.
        """
        if not isinstance(type, str):
            raise InvalidValue("task type", type, 'write it behind the decorator: @app.handler("the:type")')
        names = {**sys._getframe(1).f_locals}  # noqa: SLF001  (annotations may name the caller's local classes)

        def register(function: _F) -> _F:
            if type in self.handlers:
                raise AlreadyExists("handler", type, "a type has one handler")
            self.handlers[type] = Handler(
                type,
                function,
                concurrency=concurrency,
                timeout=timeout.total_seconds() if isinstance(timeout, timedelta) else timeout,
                heartbeat=heartbeat,
                names=names,
            )
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
            raise InvalidValue("handlers", 0, 'register at least one, with @app.handler("the:type")')
        ending = self._ending = asyncio.Event()
        options = resolve(self._server, self._context)
        _logger.info("connecting to %s", describe(self._server, self._context))
        connection = await self._open(options, ending)
        if connection is None:
            self._ending = None
            return
        endpoints = [
            Endpoint(handler, exec_subject(self._prefix, task_type), RESPONDER_GROUP)
            for task_type, handler in self.handlers.items()
        ]
        service = Service(self._name, self._version, self._description, endpoints)
        serving = Serving(connection, endpoints, self._middleware, name=self._name, errors=self._errors)
        try:
            await serving.start()
            await service.start(connection)
            await connection.flush()
            _logger.info("serving %s", ", ".join(sorted(self.handlers)))
            if started is not None:
                started()
            await ending.wait()
        finally:
            patience = 0.0  # cancelled once more
            try:
                await serving.leave()
                await service.stop()
                patience = self._drain
            finally:
                try:
                    await serving.finish(patience)
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
        elif error is not None and "permissions violation" in str(error).lower():
            discovery = "$srv." in str(error).lower()  # nine subjects: one line for all
            _logger.log(
                logging.DEBUG if discovery and self._hidden else logging.WARNING, "a right is missing: %s", error
            )
            self._hidden = self._hidden or discovery
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
