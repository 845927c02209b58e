"""With `fast_parser` and `steady_client`, all that leans on nats-py's insides: messages handed over at once, as bytes.

nats-py's public interface costs a queue, a task switch, a header parse and a flush per message. This subclass reads
what the socket brings in one synchronous pass, calls a subscription's callback by its id with raw bytes, and writes
once per turn of the event loop. Everything else (connecting, TLS, authentication, reconnecting, replaying
subscriptions) stays nats-py's.

`unavailable()` says why this client cannot be used with the installed nats-py, and `ajc.connection` then falls back
to the public interface: slower, the same behaviour.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any, Final

import nats
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from ajc.errors import Closed, Unavailable
from ajc.fast_parser import FastParser
from ajc.steady_client import SteadyClient
from ajc.transport import LOW_WATER, OFFLINE_BUFFER, ONLINE_BUFFER, SMALLEST_LIMIT, RawCallback, check_message

_CRLF: Final = b"\r\n"
_EARLY: Final = 1 << 16  # bytes; what uvloop's sockets hold back, too
_TESTED_VERSION: Final = "2.16."
_CONNECTED: Final = getattr(Client, "CONNECTED", None)
_USED: Final = (
    "_status",
    "_pending",
    "_pending_data_size",
    "_transport",
    "_sid",
    "_ps",
    "_send_ping",
    "_read_loop",
    "_subs",
    "_send_subscribe",
    "_send_unsubscribe",
    "_process_err",
    "_error_cb",
    "_err",
    "_attempt_reconnect",
    "_process_connect_init",
    "_close",
)


class FastClient(SteadyClient):
    """nats-py's client with raw callbacks (`raw_callbacks`) and a synchronous `send`."""

    def __init__(self) -> None:
        super().__init__()
        self._ps: FastParser = FastParser(self)
        self.raw_callbacks: dict[bytes, RawCallback] = {}  # by the subscription's id as it comes
        self.callback_failed: Callable[[Exception], None] = _raise
        self._call_soon = asyncio.get_running_loop().call_soon
        self._look_at = 0  # pending bytes at which the next message calls _look; 0: the first message of a turn does
        self._writes_planned = 0
        self._held = 0  # bytes that the socket had not taken when it was asked last

    def publish_now(self, subject: str, body: bytes = b"", *, headers: bytes | None = None, reply: str = "") -> None:
        """Send one message: `Connection.publish` in one piece, since a task costs six of them."""
        if body.__class__ is not bytes:
            body = bytes(body)  # whoever passes what is none learns of it here: later it would stop all messages
        size = len(body) if headers is None else len(headers) + len(body)
        if " " in subject or not subject.isprintable() or not subject or size > SMALLEST_LIMIT:
            check_message(subject, size, self.max_payload)
        if self._pending_data_size >= self._look_at:
            self._look()
        if headers is None:
            line = f"PUB {subject} {reply} {size}\r\n".encode()
            self._pending += (line, body, _CRLF)  # joined once, with all others of this turn
        else:
            line = f"HPUB {subject} {reply} {len(headers)} {size}\r\n".encode()
            self._pending += (line, headers, body, _CRLF)
        self._pending_data_size += size + len(line) + 2

    def send(self, commands: bytes) -> None:
        """Append protocol commands, if there is room for them: `Connection.send`."""
        if self._pending_data_size >= self._look_at:
            self._look()
        self._pending.append(commands)
        self._pending_data_size += len(commands)

    def unsent(self) -> int:
        """Bytes handed over and not taken by the socket."""
        if self._held or not self._writes_planned:  # nats-py writes past this, too: asked once a turn at least
            self._ask_socket()
        return self._pending_data_size + self._held

    def online(self) -> bool:
        """Whether there is a server."""
        return self._status == _CONNECTED or bool(self.is_connected)  # the first alone is asked without a call

    def ready(self) -> bool:
        """Whether there is a server, and the send buffer takes more without complaint."""
        return self.unsent() <= LOW_WATER and self.online()

    def _look(self) -> None:
        """Raise what says that nothing more may be sent, else see to it that what is pending will be."""
        if self._pending_data_size >= _EARLY:
            self._write_out()  # the server works on it meanwhile
        if self.is_closed:
            raise Closed
        if self.unsent() > (ONLINE_BUFFER if self.is_connected else OFFLINE_BUFFER):
            raise Unavailable("the send buffer is full: the server is away or reads too slowly")
        if not self._writes_planned:
            self._plan_write()
        self._look_at = self._pending_data_size + _EARLY

    def _plan_write(self) -> None:
        self._writes_planned += 1
        self._call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._writes_planned -= 1
        self._write_out()
        self._look_at = 0

    def _write_out(self) -> None:
        transport = self._transport
        if not self._pending or transport is None or not self.is_connected:
            return  # nats-py writes what is pending once it is connected again
        data = b"".join(self._pending)
        self._pending = []
        self._pending_data_size = 0
        try:
            transport.write(data)
        except (OSError, RuntimeError, AttributeError):
            return  # the reading loop meets the same broken socket and reconnects
        self._ask_socket()

    def _ask_socket(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        self._held = writer.transport.get_write_buffer_size() if writer is not None else 0

    async def _read_loop(self) -> None:
        self._feed_at_once()
        await super()._read_loop()

    def _feed_at_once(self) -> None:
        """Give the parser what the socket brings when it comes; nats-py's loop reads what is left for it."""
        reader, parser = getattr(self._transport, "_io_reader", None), self._ps
        if not isinstance(reader, asyncio.StreamReader) or not hasattr(reader, "_buffer"):
            return  # a web socket, or streams of another shape: the loop reads everything
        keep = reader.feed_data

        def feed(data: bytes) -> None:
            if parser.busy or reader._buffer or reader.exception() is not None or not self._reads(reader):  # noqa: SLF001
                keep(data)  # behind what the loop has not read yet, or the connection is at its end
                return
            try:
                left = parser.take(bytes(data))
            except ProtocolError as error:
                reader.set_exception(error)
                return
            # behind all that this has woken: planned with the first message of theirs, it would be a turn later, behind
            # the next read, and the server idle until then
            self._plan_write()
            if left:
                keep(left)

        reader.feed_data = feed  # type: ignore[method-assign, assignment]

    def _reads(self, reader: asyncio.StreamReader) -> bool:
        """Whether this is the reader of the connection as it is now."""
        return self.is_connected and getattr(self._transport, "_io_reader", None) is reader

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # nats-py writes the ping past what is pending, and its answer would say nothing about that
        self._write_out()
        await super()._send_ping(future)

    async def subscribe_raw(self, subject: str, queue: str, callback: RawCallback) -> Any:
        """Subscribe; messages go to `callback` as bytes. The subscription is replayed on reconnects like any other."""
        sid = b"%d" % (self._sid + 1)  # known beforehand, so that no message slips through to the slow way
        self.raw_callbacks[sid] = callback
        try:
            subscription = await self.subscribe(subject, queue=queue, cb=_never)
        except BaseException:
            self.raw_callbacks.pop(sid, None)
            raise
        self.raw_callbacks[b"%d" % subscription._id] = self.raw_callbacks.pop(sid)  # noqa: SLF001
        return subscription

    def _left(self, subscription: Any) -> None:
        super()._left(subscription)
        self.raw_callbacks.pop(b"%d" % subscription._id, None)  # noqa: SLF001


def _raise(error: Exception) -> None:
    raise error


async def _never(_message: Any) -> None:
    """Stand in for the callback of a raw subscription, whose messages never come this way."""


def unavailable() -> str | None:
    """Say why the installed nats-py cannot carry this client, or None when it can.

    Checked: the version this was written against, and every attribute and signature that is used; what the streams of a
    connection have is looked at when it reads, and without it nats-py's loop reads everything. `AJC_FAST=0` in the
    environment switches it off, for diagnosis.
    """
    if os.environ.get("AJC_FAST") == "0":
        return "switched off by AJC_FAST=0"
    version = getattr(nats, "__version__", None) or _distribution_version()
    if not version.startswith(_TESTED_VERSION):
        return f"nats-py {version} is not {_TESTED_VERSION}x"
    try:
        client = Client()
        for attribute in _USED:
            if not hasattr(client, attribute):
                return f"nats-py's Client has no {attribute}"
        parser = Parser(client)
        known = all(hasattr(parser, attribute) for attribute in ("buf", "nc", "reset"))
        if not known or list(inspect.signature(Parser.parse).parameters) != ["self", "data"]:
            return "nats-py's Parser has another shape"
    except (AttributeError, TypeError, ValueError) as error:
        return f"nats-py has another shape: {error}"
    return None


def _distribution_version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (slow to import, needed once)

    return version("nats-py")
