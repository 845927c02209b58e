"""The daemon: connects, serves, drains, whatever ends it.

Exit codes: 0 drained, 1 failed, 2 configuration, 5 connection refused or closed for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import secrets
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeVar

import anyio

from ajc.connect_options import ConnectOptions, without_secrets
from ajc.connection import Connection, State
from ajc.errors import Closed, InvalidValue, NotFound, StoreError, Unavailable
from ajc.stored_queue import Change
from ajc.transport import SMALLEST_LIMIT
from ajc_bridge import __version__, happenings
from ajc_bridge.clock import SystemClock
from ajc_bridge.config import Config
from ajc_bridge.following import Following
from ajc_bridge.http.routes import application
from ajc_bridge.http.server import HttpServer
from ajc_bridge.jetstream.cancel_messages import listen_for_cancels
from ajc_bridge.jetstream.connection import connect_options
from ajc_bridge.jetstream.dead_letters import JetStreamDeadLetters
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.queues import prepare_stores
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.journal.events import Events
from ajc_bridge.journal.journal import Journal
from ajc_bridge.journal.logs import Logs
from ajc_bridge.journal.metrics import Metrics
from ajc_bridge.journal.progress import ProgressEvents
from ajc_bridge.journal.traces import open_tracer
from ajc_bridge.mends import ENABLE_JETSTREAM, jetstream_is_off
from ajc_bridge.ports import Ports
from ajc_bridge.probes import Readiness
from ajc_bridge.serving import Serving

OK: Final = 0
FAILED: Final = 1
MISCONFIGURED: Final = 2
NO_CONNECTION: Final = 5
_FIRST_PREPARE_PAUSE: Final = 0.5
_LONGEST_PREPARE_PAUSE: Final = 5.0
_TIDY_UP_SECONDS: Final = 0.5
_T = TypeVar("_T")


class _Stop:
    """Why the daemon ends: the first reason counts."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.code = OK

    def __call__(self, code: int) -> None:
        if not self.event.is_set():
            self.code = code
            self.event.set()


class Daemon:
    """One bridge process, from start to exit code."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self.config = config
        self.name = config.bridge.name or f"{platform.node() or 'bridge'}-{secrets.token_hex(3)}"
        self.logs = Logs(config.log.level, config.log.format)
        self.metrics = Metrics(lines_dropped=self.logs.lines_dropped)
        self.readiness = Readiness()
        self._connection: Connection | None = None
        self._server = ""
        sinks = (self.metrics, self.logs, self.readiness, ProgressEvents(self._publish), Events(self._publish))
        self.journal = Journal(sinks)
        self._note = self.journal.note
        self._stop = _Stop()
        self._serving: Serving | None = None
        self._store: JetStreamTaskStore | None = None
        self._limited: tuple[JetStreamTaskStore | NatsExchange, ...] = ()
        self._closed = asyncio.Event()
        self._following = Following(config, reload, self.journal, self.logs)

    async def run(self) -> int:
        """Run until a signal or a fault ends it, and return the exit code."""
        self.logs.take_over_logging()
        self._note(happenings.Started(self.name, __version__, self.config.bridge.concurrency))
        http: HttpServer | None = None
        with self._signals():
            try:
                if self.config.http.listen != "off":
                    http = HttpServer(self.config.http.listen, application(self.readiness, self.metrics.text))
                    self._note(happenings.HttpListening(await http.start()))
                code = await self._serve()
            except (InvalidValue, NotFound) as error:
                self.logs.say("error", "bridge.refused", str(error))
                code = MISCONFIGURED
            except Exception as error:  # noqa: BLE001  (the process ends, with a line that says why)
                self._note(happenings.Trouble("daemon", _causes(error)))
                code = FAILED
            finally:
                if self._connection is not None:
                    await self._connection.close()
                if http is not None:
                    await http.stop()
        self._note(happenings.Stopped(code))
        self.logs.finish()
        return code

    async def _serve(self) -> int:
        options = connect_options(self.config.nats)
        self._server = ", ".join(map(without_secrets, options.servers))
        connected = await _unless(self._stop.event, self._connect(options))
        if connected is None:
            return self._stop.code
        self._connection = connection = connected
        self._note(happenings.Connected(connection.server_url, connection.server_version))
        if connection.fast_path_missing is not None:
            self._note(happenings.FastPathUnavailable(connection.fast_path_missing))
        try:
            serving = await _unless(self._stop.event, self._prepare(connection))
            if serving is not None:
                _spare_the_collector()
                await self._work(connection, serving)
        finally:
            await self._leave(connection)
        return NO_CONNECTION if connection.closed else self._stop.code

    async def _work(self, connection: Connection, serving: Serving) -> None:
        """Serve until told to stop; raises the fault that ends it otherwise."""
        async with anyio.create_task_group() as group:
            for work in (serving.keep_bound, serving.watch, serving.rescue, *serving.upkeep):
                group.start_soon(work)
            group.start_soon(self._following.run, connection, serving)
            await self._stop.event.wait()
            group.cancel_scope.cancel()

    async def _leave(self, connection: Connection) -> None:
        """Settle what runs, whatever the reason for the end: cut off, every attempt would cost its task a try."""
        serving = self._serving
        if serving is None or not serving.begun:
            return
        if not connection.closed:
            limit = self._following.config.bridge.drain
            self._note(happenings.Draining(serving.running, limit))
            left = await _unless(self._closed, serving.drain(limit / 1e9))
            if left is not None:
                self._note(happenings.Drained(left))
                with contextlib.suppress(Unavailable):
                    await connection.flush()
                return
        await serving.abandon()

    async def _connect(self, options: ConnectOptions) -> Connection | None:
        try:
            return await Connection.open(
                options, name=self.name, on_state=self._state_changed, wait_for_server=True, private_inbox=True
            )
        except Closed as error:
            self._note(happenings.ConnectionClosed(str(error)))
            self._stop(NO_CONNECTION)
            return None

    async def _prepare(self, connection: Connection) -> Serving:
        """Make the streams, open the inboxes, bind the queues; a server that is not ready yet is waited for."""
        pause = _FIRST_PREPARE_PAUSE
        while True:
            try:
                max_message, changes = await prepare_stores(connection, self.config)
                self._note_changes(changes)
                if self._store is None:
                    self._store, self._serving = await self._open(connection, max_message)
                assert self._serving is not None  # opened together
                await self._serving.bind_all()
            except (StoreError, Unavailable) as error:
                self._note(_not_prepared(error))
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PREPARE_PAUSE)
            else:
                return self._serving

    async def _open(self, connection: Connection, max_message: int) -> tuple[JetStreamTaskStore, Serving]:
        store = JetStreamTaskStore(connection, max_message=max_message)
        exchange = NatsExchange(connection, self.journal)
        await store.start()
        await exchange.start()
        self._limited = (store, exchange)
        ports = Ports(
            store=store,
            delay=JetStreamDelayQueue(connection),
            letters=JetStreamDeadLetters(connection),
            exchange=exchange,
            journal=self.journal,
            clock=SystemClock(),
            tracer=open_tracer(),
        )
        serving = Serving(connection, store, ports, self.config, self.readiness.expect)
        await listen_for_cancels(connection, serving.cancelled)
        return store, serving

    def _state_changed(self, state: State, error: BaseException | None) -> None:
        text = str(error) if error is not None else ""
        match state:
            case "disconnected":
                if self._store is not None:
                    self._store.connection_lost()
                if self._serving is not None:
                    self._serving.connection_lost()
                self._note(happenings.Disconnected(text))
            case "reconnected":
                for adapter in self._limited:
                    adapter.reconnected()
                if self._serving is not None:
                    self._serving.reconnected()
                if self._connection is not None:
                    self._note(happenings.Reconnected(self._connection.server_url, self._connection.server_version))
            case "closed":
                self._closed.set()
                self._note(happenings.ConnectionClosed(text))
                self._stop(NO_CONNECTION)
            case "error":
                connected = self._connection is not None and self._connection.connected
                failed = happenings.Trouble("nats", text) if connected else happenings.ConnectFailed(self._server, text)
                self._note(failed)
            case _:
                pass

    def _publish(self, subject: str, body: bytes) -> None:
        """Send an event; its subject is made of checked names."""
        connection, size = self._connection, len(body)
        if connection is None:
            return
        if size > SMALLEST_LIMIT:
            connection.publish(subject, body)
        else:  # nothing is left to check
            connection.send(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, body))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end_signal)
        loop.add_signal_handler(signal.SIGINT, self._end_signal)
        loop.add_signal_handler(signal.SIGHUP, self._following.read_again)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _end_signal(self) -> None:
        if self._stop.event.is_set():
            self.logs.finish()
            os._exit(FAILED)  # a second signal: at once, whatever runs
        self._stop(OK)

    def _note_changes(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._note(happenings.QueueConfigured("", change.field, change.before, change.after))


async def run(config: Config, reload: Callable[[], Config]) -> int:
    """Run one daemon to its end and return its exit code; `reload` reads the configuration again (SIGHUP)."""
    return await Daemon(config, reload).run()


def _spare_the_collector() -> None:
    """Leave what was made at the start out of every later collection, and collect a tenth as often.

    A task's values hold no cycles, so reference counts free them; only faults make garbage for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Await `work`, or return None when the event is set before: `work` is cancelled then, and may tidy up."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        doing.cancel()
        waiting.cancel()
        await asyncio.wait({doing, waiting}, timeout=_TIDY_UP_SECONDS)


def _not_prepared(error: StoreError | Unavailable) -> happenings.NotPrepared:
    if jetstream_is_off(error):
        return happenings.NotPrepared("JetStream", f"{error} {ENABLE_JETSTREAM}")
    return happenings.NotPrepared("streams", str(error))


def _causes(error: BaseException) -> str:
    """Return the errors within an exception group, in one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_causes(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}"
