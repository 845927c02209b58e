"""The life of a connection on nats-py: connecting, refusals, reconnects, its end. What both transports share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import nats.errors

from ajc import steady_client
from ajc.connect_options import ConnectOptions, check_files, tls_context, without_secrets
from ajc.errors import Closed, Unavailable
from ajc.steady_client import SteadyClient
from ajc.transport import OFFLINE_BUFFER

# nats-py logs what it also reports through its callbacks; here the callbacks count
logging.getLogger("nats.aio.client").setLevel(logging.CRITICAL)

_RECONNECT_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 5.0
_DISCARD_SECONDS: Final = 1.0
_REFUSED_TIMES: Final = 2
_REFUSALS: Final = ("authorization", "authentication", "user authentication", "credentials")


class NatsSession:
    """One client of nats-py from its first try to connect until it is closed for good."""

    def __init__(self, client: SteadyClient) -> None:
        self._client = client
        self._on_state: Callable[[Any, BaseException | None], None] = lambda _state, _error: None
        self._opened = False
        self._opening = True
        self._refused = 0
        self._giving_up: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[Any] | None = None

    @property
    def max_payload(self) -> int:
        """The server's limit for headers and body together, in bytes."""
        return int(self._client.max_payload)

    @property
    def connected(self) -> bool:
        """Whether there is a server now."""
        return bool(self._client.is_connected)

    @property
    def closed(self) -> bool:
        """Whether it ended for good."""
        return self._opened and bool(self._client.is_closed)

    @property
    def server_url(self) -> str:
        """The URL of the server at the other end (one of a cluster's), without credentials; empty without one."""
        url = self._client.connected_url
        return "" if url is None else f"{url.scheme}://{url.netloc.rpartition('@')[2]}"

    @property
    def server_version(self) -> str:
        """The server's version."""
        version = self._client.connected_server_version
        try:
            return f"{version.major}.{version.minor}.{version.patch}"
        except ValueError:
            return str(version)  # a server that does not number its versions by semver

    async def connect(
        self,
        options: ConnectOptions,
        name: str,
        on_state: Callable[[Any, BaseException | None], None],
        *,
        wait_for_server: bool,
    ) -> None:
        """Connect as `Connection.open` says."""
        self._on_state = on_state
        servers = list(options.servers)
        names = ", ".join(map(without_secrets, servers))
        connecting = asyncio.current_task()
        cancelled_before = connecting.cancelling() if connecting is not None else 0

        def heed_cancellation() -> None:
            """Cancel again: asyncio.wait_for, which nats-py connects with, loses it when it comes with an answer."""
            if connecting is not None and connecting.cancelling() > cancelled_before:
                raise asyncio.CancelledError

        async def failed(error: Exception) -> None:
            if self._opening:
                heed_cancellation()
            self._heed_close()
            if self._opened or self._opening:
                on_state("error", error)
            if self._opened:
                self._count_refusal(error, len(servers))
            if not self._opening:
                return  # nats-py also reports what it meets while it closes, and must get to its end
            self._refused += 1
            if _is_refusal(error):
                raise Closed(f"{names} refuses the connection: {error}") from error
            if not wait_for_server and self._refused >= len(servers):
                reason = str(error) or "what listens there does not answer as a NATS server"
                raise Unavailable(f"no NATS server at {names}: {reason}") from error

        async def disconnected() -> None:
            if self._opened:
                on_state("disconnected", None)

        async def closed() -> None:
            if self._opened:
                on_state("closed", self._client.last_error)

        check_files(options)
        try:
            await self._client.connect(
                servers=servers,
                name=name,
                error_cb=failed,
                disconnected_cb=disconnected,
                reconnected_cb=self._came_back,
                closed_cb=closed,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]  # a float does, the annotation is too narrow
                connect_timeout=options.connect_timeout,  # type: ignore[arg-type]
                ping_interval=20,
                pending_size=OFFLINE_BUFFER,
                tls=tls_context(options),
                tls_hostname=options.tls_hostname,
                tls_handshake_first=options.tls_first,
                user=options.user,
                password=options.password,
                token=options.token,
                user_credentials=options.creds,
                nkeys_seed=options.nkey,
                inbox_prefix=options.inbox_prefix or "_INBOX",
            )
            heed_cancellation()
        except (Closed, Unavailable, asyncio.CancelledError):
            await self._discard()
            raise
        except ImportError as error:
            await self._discard()
            raise Unavailable("creds and nkey need one more package: pip install 'nats-py[nkeys]'") from error
        except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
            await self._discard()
            raise Unavailable(f"cannot connect to {names}: {error}") from error
        self._opened, self._opening = True, False
        self._refused = 0
        self._start()

    async def _discard(self) -> None:
        """Close a client that may not have begun to connect, which nats-py asserts."""
        self._opening = False
        with contextlib.suppress(OSError, nats.errors.Error, AssertionError, TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):  # TLS waits long for the other end
                await self._client.close()

    async def _came_back(self) -> None:
        if self._closing is not None:
            await self._client.close()  # it was told to end before, and that was lost
            return
        self._refused = 0
        self._on_state("reconnected", None)

    def _heed_close(self) -> None:
        """Cancel again what the close has cancelled, which is trying to reconnect: see `heed_cancellation`."""
        current = asyncio.current_task()
        if self._closing not in (None, current) and current is not None and current.cancelling():
            raise asyncio.CancelledError

    def _count_refusal(self, error: Exception, servers: int) -> None:
        """Close for good when every server has refused the credentials twice in a row: they were taken away."""
        # what ends a connection that stood may be over when the next one is made: that one's refusal counts
        if _is_refusal(error) and not isinstance(error, steady_client.ServerError):
            self._refused += 1
            if self._refused == _REFUSED_TIMES * servers:
                self._giving_up = asyncio.create_task(self._give_up(error))

    async def _give_up(self, error: Exception) -> None:
        await self.close()  # says nothing of its own
        self._on_state("closed", error)

    def _start(self) -> None:
        """Begin what a transport does once it is connected."""

    async def _hand_over(self) -> None:
        """Give the client all that it has not got yet."""

    def _stop(self) -> None:
        """End what `_start` began: nothing more is sent."""

    async def flush(self, timeout: float) -> None:
        """Wait until all is at the server."""
        await self._guarded(self._flush(timeout))

    async def _flush(self, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self._hand_over()
            await self._client.flush(timeout)  # type: ignore[arg-type]  # a float does

    async def close(self) -> None:
        """Send what is pending, wait a moment until the server has read it, and close.

        A socket that is closed with something unread in it tells the server to drop what it has not read yet.
        """
        read = False
        try:
            if self.connected:
                # a task of its own: in one that was cancelled, a time-out of asyncio's comes out as a cancellation
                await asyncio.wait_for(asyncio.ensure_future(self.flush(_CLOSE_SECONDS)), _CLOSE_SECONDS)
                read = True
        except (TimeoutError, Closed, Unavailable):
            pass  # nothing is waited for any more
        finally:
            await self._end(read=read)

    async def _end(self, *, read: bool) -> None:
        self._stop()
        self._opened = False  # a close that was asked for is no event
        self._closing = asyncio.current_task()
        if not read:
            steady_client.drop_pending(self._client)
            steady_client.abort(self._client)
        with contextlib.suppress(OSError, RuntimeError, nats.errors.Error):  # a broken socket is closed all the same
            await self._client.close()
        self._opened = True

    async def _guarded(self, call: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await call
        except nats.errors.ConnectionClosedError as error:
            raise Closed from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS: {error}") from error


def _is_refusal(error: BaseException) -> bool:
    text = str(error).lower()
    if "timeout" in text or "permissions violation" in text:
        return False  # one that is too slow has not judged the credentials, and a subject may have any of these words
    return isinstance(error, nats.errors.AuthorizationError) or any(word in text for word in _REFUSALS)
