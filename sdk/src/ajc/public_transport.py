"""The transport on nats-py's public interface: always there, and the slower one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats.errors
from nats.aio.msg import Msg

from ajc.errors import Closed, Unavailable
from ajc.headers import encode_parsed, parse_headers
from ajc.nats_session import NatsSession
from ajc.steady_client import KeepingClient, KeepingHeaders, LeavableSubscription
from ajc.transport import (
    LOW_WATER,
    OFFLINE_BUFFER,
    ONLINE_BUFFER,
    SMALLEST_LIMIT,
    Message,
    Publish,
    RawCallback,
    Subscription,
    check_message,
)


class PublicTransport(NatsSession):
    """nats-py through its public interface."""

    def __init__(self) -> None:
        super().__init__(KeepingClient())
        self.publish: Publish = self._publish
        self.ready: Callable[[], bool] = self._ready
        self.online: Callable[[], bool] = lambda: self.connected
        self.send: Callable[[bytes], None] = self._send
        self._outgoing: asyncio.Queue[tuple[str, bytes, dict[str, str] | None, str]] = asyncio.Queue()
        self._outgoing_bytes = 0
        self._sender: asyncio.Task[None] | None = None

    def _start(self) -> None:
        self._sender = asyncio.create_task(self._send_all())

    async def _hand_over(self) -> None:
        await self._outgoing.join()

    def _stop(self) -> None:
        if self._sender is not None:
            self._sender.cancel()

    async def _send_all(self) -> None:
        while True:
            subject, body, headers, reply = await self._outgoing.get()
            self._outgoing_bytes -= len(body)
            try:
                await self._client.publish(subject, body, reply=reply, headers=headers)
            except nats.errors.Error as error:
                self._on_state("error", error)
            finally:
                self._outgoing.task_done()

    def _publish(self, subject: str, body: bytes = b"", *, headers: bytes | None = None, reply: str = "") -> None:
        """Hand one message over; the sending task publishes it. See `ajc.transport.Publish`."""
        body = bytes(body)  # raises here for what is none: later it would end the sending task
        check_message(subject, len(body) + len(headers or b""), max(self.max_payload, SMALLEST_LIMIT))
        if self.closed:
            raise Closed
        if self.backlog() + len(body) > (ONLINE_BUFFER if self.connected else OFFLINE_BUFFER):
            raise Unavailable("the send buffer is full: the server is away or reads too slowly")
        pairs = dict(parse_headers(headers).items) if headers is not None else None
        self._outgoing_bytes += len(body)
        self._outgoing.put_nowait((subject, body, pairs, reply))

    def _send(self, commands: bytes) -> None:
        """Publish what these protocol commands say, one after the other."""
        start = 0
        while start < len(commands):
            line_end = commands.index(b"\r\n", start)
            kind, subject, *reply, size = commands[start:line_end].split(b" ")
            headers_size = int(reply.pop()) if kind == b"HPUB" else 0
            begin = line_end + 2
            middle, end = begin + headers_size, begin + int(size)
            headers = commands[begin:middle] if headers_size else None
            self._publish(subject.decode(), commands[middle:end], headers=headers, reply=b"".join(reply).decode())
            start = end + 2

    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str) -> Subscription:
        """Subscribe with a coroutine callback, as nats-py wants it."""

        async def hand_over(message: Msg) -> None:
            callback(Message(message.subject, message.reply, message.data, _block(message.headers)))

        subscription = await self._guarded(self._client.subscribe(subject, queue=queue, cb=hand_over))
        return LeavableSubscription(self._client, subscription)

    async def subscribe_raw(self, subject: str, callback: RawCallback, queue: str = "") -> Subscription:
        """Subscribe with a callback that takes (subject, reply, body, header block or None) as bytes."""

        def hand_over(message: Message) -> None:
            callback(message.subject.encode(), message.reply.encode(), message.body, message.headers)

        return await self.subscribe(subject, hand_over, queue)

    def backlog(self) -> int:
        """Bytes handed over and not sent."""
        return self._outgoing_bytes + int(self._client.pending_data_size)

    def _ready(self) -> bool:
        return self.connected and self.backlog() <= LOW_WATER


def _block(headers: dict[str, str] | None) -> bytes | None:
    if isinstance(headers, KeepingHeaders):
        return headers.block
    return encode_parsed(headers) if headers else None
