"""The transport on `ajc.fast_client`: raw bytes to the callbacks, one write per turn of the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ajc import fast_client
from ajc.fast_client import FastClient
from ajc.nats_session import NatsSession
from ajc.public_transport import PublicTransport
from ajc.steady_client import LeavableSubscription
from ajc.transport import Message, Publish, RawCallback, Subscription, Transport

_logger: Final = logging.getLogger("ajc.connection")


class FastTransport(NatsSession):
    """nats-py through `ajc.fast_client`."""

    def __init__(self) -> None:
        self._fast = FastClient()
        super().__init__(self._fast)
        self.publish: Publish = self._fast.publish_now
        self.ready: Callable[[], bool] = self._fast.ready
        self.online: Callable[[], bool] = self._fast.online
        self.send: Callable[[bytes], None] = self._fast.send

    def _start(self) -> None:
        self._fast.callback_failed = lambda error: self._on_state("error", error)

    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str) -> Subscription:
        """Subscribe with a raw callback."""

        def hand_over(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
            callback(Message(subject.decode("utf-8", "replace"), reply.decode("utf-8", "replace"), body, headers))

        return await self.subscribe_raw(subject, hand_over, queue)

    async def subscribe_raw(self, subject: str, callback: RawCallback, queue: str = "") -> Subscription:
        """Subscribe with a callback that takes (subject, reply, body, header block or None) as bytes."""
        subscription = await self._guarded(self._fast.subscribe_raw(subject, queue, callback))
        return LeavableSubscription(self._fast, subscription)

    def backlog(self) -> int:
        """Bytes handed over and not taken by the socket."""
        return self._fast.unsent()


def choose_transport(*, fast: bool) -> tuple[Transport, str | None]:
    """Return the fast transport, or the public one with the reason why."""
    reason = fast_client.unavailable() if fast else None
    if not fast:
        return PublicTransport(), None
    if reason is not None:
        _logger.warning("the fast path is not available, messages take the slow one: %s", reason)
        return PublicTransport(), reason
    return FastTransport(), None
