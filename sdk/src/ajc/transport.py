"""What carries a connection: one protocol with two keepers, `public_transport` and `fast_transport`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from ajc.connect_options import ConnectOptions
from ajc.fast_client import RawCallback

OFFLINE_BUFFER: Final = 2 << 20
"""Bytes kept while there is no server."""
ONLINE_BUFFER: Final = 32 << 20
"""Bytes kept for a server that reads too slowly."""


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


class Transport(Protocol):
    """What carries a `Connection`."""

    @property
    def max_payload(self) -> int: ...  # noqa: D102
    @property
    def connected(self) -> bool: ...  # noqa: D102
    @property
    def closed(self) -> bool: ...  # noqa: D102
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
    def publish(self, subject: str, body: bytes, headers: bytes | None, reply: str) -> None: ...  # noqa: D102
    def send(self, commands: bytes) -> None: ...  # noqa: D102
    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str) -> Subscription: ...  # noqa: D102
    async def subscribe_raw(self, subject: str, callback: RawCallback, queue: str = "") -> Subscription: ...  # noqa: D102
    def backlog(self) -> int: ...  # noqa: D102
    async def flush(self, timeout: float) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102
