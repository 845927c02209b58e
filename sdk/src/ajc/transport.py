"""What carries a connection: one protocol with two keepers, `public_transport` and `fast_transport`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from ajc.connect_options import ConnectOptions
from ajc.errors import InvalidName, TooLarge

OFFLINE_BUFFER: Final = 2 << 20
"""Bytes kept while there is no server."""
ONLINE_BUFFER: Final = 32 << 20
"""Bytes kept for a server that reads too slowly."""
LOW_WATER: Final = 1 << 20
"""Bytes up to which the send buffer takes more without complaint."""
SMALLEST_LIMIT: Final = 1_024
"""Bytes of a message that every server takes."""

RawCallback = Callable[[bytes, bytes, bytes, bytes | None], None]
"""(subject, reply, body, header block or None), called synchronously as bytes arrive: hand over only."""


class Message(msgspec.Struct):
    """One message: `headers` is the raw header block, None when there is none."""

    subject: str
    reply: str
    body: bytes
    headers: bytes | None = None


class Subscription(Protocol):
    """What `subscribe` returns."""

    async def unsubscribe(self) -> None:
        """End it at once: what is on its way is dropped. Raises nothing."""

    async def drain(self) -> None:
        """End it, and return once everything that the server had sent for it was handed over. Raises nothing."""


async def drain_all(subscriptions: Iterable[Subscription], seconds: float) -> bool:
    """Drain them at once, for so many seconds at most; whether all of it came. Raises nothing."""
    draining = [asyncio.ensure_future(subscription.drain()) for subscription in subscriptions]
    if not draining:
        return True
    _, pending = await asyncio.wait(draining, timeout=seconds)
    for one in pending:
        one.cancel()
    return not pending


class Publish(Protocol):
    """How one message is sent."""

    def __call__(self, subject: str, body: bytes = b"", *, headers: bytes | None = None, reply: str = "") -> None:
        """Send it, without waiting. While disconnected it is kept, up to 2 MiB in all.

        Raises `TooLarge` over the server's limit, `Unavailable` when the send buffer is full, `Closed`, and
        `InvalidName` for a subject with blanks or control characters.
        """


def check_message(subject: str, size: int, limit: int) -> None:
    """Raise `InvalidName` or `TooLarge` for what the server would close the connection for."""
    if " " in subject or not subject.isprintable() or not subject:
        raise InvalidName("subject", subject, "no blanks or control characters")
    if size > limit:
        raise TooLarge("message", size, limit)


class Transport(Protocol):
    """What carries a `Connection`."""

    publish: Publish
    online: Callable[[], bool]
    """Whether there is a server at the other end."""
    ready: Callable[[], bool]
    """Whether there is a server, and the send buffer takes more without complaint."""
    send: Callable[[bytes], None]
    r"""Send commands of NATS' protocol (PUB and HPUB, each with its last \r\n), without waiting.

    For who sends thousands: nothing is checked but the buffer, so they must be within `max_payload`, with one blank
    between two words, or two where there is no reply. Raises `Unavailable` and `Closed` as `publish`.
    """

    @property
    def max_payload(self) -> int: ...  # noqa: D102
    @property
    def connected(self) -> bool: ...  # noqa: D102
    @property
    def closed(self) -> bool: ...  # noqa: D102
    @property
    def server_url(self) -> str: ...  # noqa: D102
    @property
    def server_version(self) -> str: ...  # noqa: D102
    async def connect(  # noqa: D102
        self,
        options: ConnectOptions,
        name: str,
        on_state: Callable[[Any, BaseException | None], None],
        *,
        wait_for_server: bool,
    ) -> None: ...
    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str) -> Subscription: ...  # noqa: D102
    async def subscribe_raw(self, subject: str, callback: RawCallback, queue: str = "") -> Subscription: ...  # noqa: D102
    def backlog(self) -> int: ...  # noqa: D102
    async def flush(self, timeout: float) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102
