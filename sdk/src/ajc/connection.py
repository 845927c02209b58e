"""One connection to NATS: publish, request, subscribe, and JetStream's own requests, with this project's errors only.

Two transports carry it: `ajc.fast_client` where the installed nats-py allows, else nats-py's public interface.
Requests go through one private wildcard inbox and a table of futures.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar, overload

import msgspec

from ajc.answers import NO_RESPONDERS, STATUS, Answer, PubAck, read_pub_ack, read_sequence
from ajc.connect_options import ConnectOptions
from ajc.errors import (
    Closed,
    NoResponders,
    Unavailable,
)
from ajc.fast_transport import choose_transport
from ajc.refused_subjects import RefusedSubjects
from ajc.request_table import RequestTable
from ajc.store_errors import store_error
from ajc.transport import LOW_WATER, Message, RawCallback, Subscription, Transport

State = Literal["connected", "disconnected", "reconnected", "closed", "error"]
StateCallback = Callable[[State, BaseException | None], None]

_T = TypeVar("_T")


class Connection:
    """A connection that stays: it reconnects for ever, and says what happens through `on_state`.

    Publishing is synchronous and buffered; all of one turn of the event loop leaves in one write. Everything raises
    errors of `ajc.errors` only.
    """

    def __init__(self, transport: Transport, options: ConnectOptions, inbox_prefix: str) -> None:
        self._transport = transport
        self.publish = transport.publish
        """Send one message, without waiting: see `ajc.transport.Publish`."""
        self.send = transport.send
        """Send whole commands of NATS' protocol, without waiting: see `ajc.transport.Transport`."""
        self.online = transport.online
        """Whether there is a server at the other end now: `connected`, for who asks it of every message."""
        self.ready = transport.ready
        """Whether there is a server now, and the send buffer takes more without complaint: `connected` and `room`."""
        self.options = options
        self.inbox_prefix = inbox_prefix
        self._requests = RequestTable(inbox_prefix)
        self.expect = self._requests.open
        """Open a request that the caller sends by itself, with `send`, and forgets when that fails."""
        self.forget = self._requests.forget
        self.refused = RefusedSubjects()
        """For who sends requests past `ask`: what the server does not let this user publish."""
        self.refused.tell(self._requests.refuse)
        self._on_state: StateCallback | None = None
        self._api_prefix = f"$JS.{options.jetstream_domain}.API." if options.jetstream_domain else "$JS.API."
        self._connected = asyncio.Event()
        self.fast_path_missing: str | None = None

    @classmethod
    async def open(
        cls,
        options: ConnectOptions,
        *,
        name: str = "ajc",
        on_state: StateCallback | None = None,
        wait_for_server: bool = False,
        private_inbox: bool = False,
        fast: bool = True,
    ) -> Self:
        """Connect, or raise `Unavailable` (nobody there in time) or `Closed` (refused for good: credentials).

        A file of credentials or TLS that cannot be read is `InvalidValue`. With `wait_for_server` only such a file and
        a refusal for good raise: the call lasts until there is a server, or until it is cancelled, which ends it at
        once. `private_inbox` puts the inbox under a random prefix of its own that nobody with `_INBOX.>` can read,
        unless the options name a prefix.
        """
        prefix = options.inbox_prefix or (f"_INBOX_{secrets.token_hex(8)}" if private_inbox else "_INBOX")
        transport, missing = choose_transport(fast=fast)
        connection = cls(transport, options, prefix)
        connection.fast_path_missing = missing
        connection._on_state = on_state
        await transport.connect(options, name, connection._state_changed, wait_for_server=wait_for_server)
        try:
            await transport.subscribe_raw(f"{connection._requests.inbox}*", connection._requests.answered)
        except BaseException:
            await transport.close()
            raise
        connection._connected.set()
        return connection

    @property
    def max_payload(self) -> int:
        """The most bytes (headers and body together) that the server takes in one message."""
        return self._transport.max_payload

    @property
    def connected(self) -> bool:
        """Whether there is a server at the other end now."""
        return self._transport.connected

    @property
    def closed(self) -> bool:
        """Whether the connection has ended for good."""
        return self._transport.closed

    @property
    def server_url(self) -> str:
        """The URL of the server at the other end (one of a cluster's), without credentials; empty without one."""
        return self._transport.server_url

    @property
    def server_version(self) -> str:
        """The server's version, like `2.15.1`."""
        return self._transport.server_version

    @property
    def pending(self) -> int:
        """Requests that wait for their answer."""
        return len(self._requests)

    @property
    def room(self) -> bool:
        """Whether the send buffer takes more without complaint."""
        return self._transport.backlog() <= LOW_WATER

    async def wait_connected(self) -> None:
        """Wait until there is a server at the other end (at once when there is). `Closed` when there never will be."""
        await self._connected.wait()
        if self.closed:
            raise Closed

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: bytes | None = None,
        timeout: float = 5.0,
        through_reconnect: bool = False,
    ) -> Answer:
        """Send a request and wait `timeout` seconds for its one answer.

        Raises `NoResponders` when nobody is subscribed, `NotPermitted` when the server does not let this user ask,
        `RequestTimeout` after the time, `Unavailable` when the connection breaks meanwhile (unless
        `through_reconnect`): then whether it was acted upon is unknown.
        """
        message = await self.ask(
            subject, body, headers=headers, timeout=timeout, through_reconnect=through_reconnect, read=Answer
        )
        if message.headers is not None and not message.body and message.headers.startswith(NO_RESPONDERS):
            raise NoResponders(subject)
        return message

    @overload
    def ask(
        self, subject: str, body: bytes = b"", *, headers: bytes | None = None, timeout: float = 5.0
    ) -> asyncio.Future[Answer]: ...

    @overload
    def ask(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: bytes | None = None,
        timeout: float = 5.0,
        through_reconnect: bool = False,
        read: Callable[[bytes, bytes | None], _T],
    ) -> asyncio.Future[_T]: ...

    def ask(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: bytes | None = None,
        timeout: float = 5.0,
        through_reconnect: bool = False,
        read: Callable[[bytes, bytes | None], Any] | None = None,
    ) -> asyncio.Future[Any]:
        """Send a request now and return the future of its answer, for callers with many under way.

        `read` makes the result of (body, header block or None), and may raise an `AjcError`. A status message (503:
        nobody there) is an answer like any other here.
        """
        inbox, future = self.expect(subject, timeout, read or Answer, through_reconnect=through_reconnect)
        try:
            self.publish(subject, body, headers=headers, reply=inbox.decode())
        except BaseException:
            self.forget(inbox)
            raise
        return future

    async def request_many(self, subject: str, body: bytes = b"", *, timeout: float = 5.0) -> list[Answer]:
        """Send a request that many messages answer, and return them once the status message that ends them has come.

        An end with 404 (nothing there) is an empty list. Raises `NoResponders`, `Unavailable` for any other status,
        and what `request` raises.
        """
        many: list[Answer] = []
        inbox, future = self.expect(subject, timeout, Answer, many=many)
        try:
            self.publish(subject, body, reply=inbox.decode())
            end = await future
        finally:
            self.forget(inbox)
        assert end.headers is not None  # only a status message ends it
        status = end.headers[len(STATUS) : len(STATUS) + 3]
        if status == b"503":
            raise NoResponders(subject)
        if status not in (b"204", b"404"):
            raise Unavailable(f"{subject} ended with status {status.decode('utf-8', 'replace')}")
        return many

    async def api(self, subject: str, payload: Any = None, *, timeout: float = 5.0) -> dict[str, Any]:
        """Ask JetStream's API (`subject` without its prefix), and return the decoded answer.

        Raises `NotFound`, `Conflict`, `QueueFull` or `StoreError` by the API's error code, and what `request` raises.
        """
        body = b"" if payload is None else msgspec.json.encode(payload)
        message = await self.request(self._api_prefix + subject, body, timeout=timeout)
        answer: dict[str, Any] = msgspec.json.decode(message.body)
        error = answer.get("error")
        if error is not None:
            raise store_error(int(error.get("err_code", 0)), str(error.get("description", "")), subject)
        return answer

    def api_subject(self, subject: str) -> str:
        """Complete a subject of JetStream's API with its prefix (which names the domain, where there is one)."""
        return self._api_prefix + subject

    async def stored(self, subject: str, body: bytes, *, headers: bytes | None = None, timeout: float = 5.0) -> PubAck:
        """Publish into a stream and wait until it is stored.

        Raises `Conflict` (another revision), `QueueFull`, `NotFound` (no stream takes the subject), `StoreError`, and
        what `request` raises: after `Unavailable` the message may or may not be stored, so read back.
        """
        message = await self.ask(subject, body, headers=headers, timeout=timeout)
        return read_pub_ack(message, subject)

    async def subscribe(self, subject: str, callback: Callable[[Message], None], *, queue: str = "") -> Subscription:
        """Subscribe; `callback` runs as messages arrive, so it only hands over. Replayed on reconnects."""
        return await self._transport.subscribe(subject, callback, queue)

    async def subscribe_raw(self, subject: str, callback: RawCallback, *, queue: str = "") -> Subscription:
        """Subscribe as `subscribe`, with a callback of bytes: (subject, reply, body, header block or None)."""
        return await self._transport.subscribe_raw(subject, callback, queue)

    async def writable(self) -> None:
        """Wait until the send buffer is below 1 MiB: what a sender of many messages awaits between them."""
        while not self.room and not self.closed:  # noqa: ASYNC110  (the socket has no event to wait for)
            await asyncio.sleep(0.001)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has read all that was sent so far. Raises `Unavailable`."""
        await self._transport.flush(timeout)

    async def close(self) -> None:
        """Send what is pending, then close for good. Outstanding requests fail with `Closed`."""
        await self._transport.close()
        self._requests.fail(Closed(), everything=True)
        self._requests.stop()

    def _state_changed(self, state: State, error: BaseException | None) -> None:
        if state == "disconnected":
            self._connected.clear()
            self._requests.fail(Unavailable("the connection to NATS broke before the answer came"), everything=False)
        elif state == "reconnected":
            self._connected.set()
        elif state == "closed":
            self._connected.set()
            self._requests.fail(Closed(), everything=True)
        elif state == "error":
            self.refused.read(error)
        if self._on_state is not None:
            self._on_state(state, error)


__all__ = [
    "Answer",
    "Connection",
    "Message",
    "PubAck",
    "State",
    "StateCallback",
    "Subscription",
    "read_pub_ack",
    "read_sequence",
]
