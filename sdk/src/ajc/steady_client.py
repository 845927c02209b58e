"""With `fast_client`, all that leans on nats-py's insides: its client with faults mended that both transports meet.

A daemon meets them when its server stands still for seconds or restarts at a bad moment. What is not there in another
version of nats-py is not called by it either, and then things are as nats-py has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

_STALE: Final = "stale connection"
_PERMISSIONS: Final = "permissions violation"
_QUOTE: Final = "'"
_refused_subscription: Final = re.compile(r'permissions violation for subscription to "([^"]+)"').search
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 300.0  # each time is a line in the server's log, and some rights are withheld on purpose


class ServerError(nats.errors.Error):
    """What a server told on a connection that stood: it may have ended it, and may take the next one."""


class SteadyClient(Client):
    """nats-py's client, with five things mended.

    - A pong that nobody waits for any more (its flush was given up) does not end the reading of the connection.
    - A subscription that is left stays left: whoever gives up waiting ends the waiting alone, and the next connection
      does not subscribe again, with nobody behind it.
    - A broken connection is dropped with what its other end did not read: it does not keep the next one from coming.
    - An error that the server tells is told, and no more: if it ends the connection for it, another one is made.
    - A subscription that the server refuses, or ends since a right was taken away, is asked for again until it stands.
      That it was refused is told once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._unheard: set[int] = set()
        self._told: set[str] = set()
        self._asking: asyncio.Task[None] | None = None

    async def _process_err(self, err_msg: str) -> None:
        refused = _refused_subscription(err_msg)
        if refused:
            self._ask_again(refused[1])
            if refused[1] in self._told:
                return
            self._told.add(refused[1])
        if not self.is_connected or _STALE in err_msg or _PERMISSIONS in err_msg:
            await super()._process_err(err_msg)
            return
        # nats-py would close for good here; the server closes if it means to, and who reads sees that and reconnects
        error = ServerError(f"nats: {err_msg.strip(_QUOTE)}")
        self._err = error
        await self._error_cb(error)

    def _ask_again(self, subject: str) -> None:
        """Subscribe once more to this subject, written in lower case, as soon as that is let through."""
        self._unheard.update(sid for sid, one in self._subs.items() if one._subject.lower() == subject)  # noqa: SLF001
        can = hasattr(self, "_send_subscribe")
        if can and self._unheard and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._subscribe_again())

    async def _subscribe_again(self) -> None:
        pause = _FIRST_PAUSE
        while self._unheard and not self.is_closed:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            asked, self._unheard = self._unheard, set()
            # a new connection has subscribed to all; one that has the subscription still ignores this
            with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
                for sid in asked:
                    one = self._subs.get(sid)
                    if one is not None and sid not in self._leaving:  # else it has been left meanwhile
                        await self._send_subscribe(one)
                await self.flush()  # a refusal comes before the pong
                stand = (self._subs[sid]._subject for sid in asked - self._unheard if sid in self._subs)  # noqa: SLF001
                self._told.difference_update(subject.lower() for subject in stand)

    async def leave(self, subscription: Any) -> None:
        """End a subscription, and hand over what the server had sent for it. Raises nothing.

        When the connection ends, so does this: nothing more can come.
        """
        if not self.is_connected:
            await self.leave_at_once(subscription)
            return
        if subscription._id not in self._subs:  # noqa: SLF001
            return  # it has been left
        leaving = self._leaving.get(subscription._id)  # noqa: SLF001
        if leaving is None:
            leaving = self._leaving[subscription._id] = asyncio.create_task(self._drain(subscription))  # noqa: SLF001
            leaving.add_done_callback(lambda _: self._left(subscription))
        await asyncio.wait({leaving})

    async def leave_at_once(self, subscription: Any) -> None:
        """End a subscription; what is still under way is dropped. Raises nothing."""
        try:
            with contextlib.suppress(nats.errors.Error, OSError):  # closed: nothing comes any more
                await subscription.unsubscribe()
        finally:
            leaving = self._leaving.get(subscription._id)  # noqa: SLF001
            if leaving is not None:
                leaving.cancel()
            self._left(subscription)

    async def _drain(self, subscription: Any) -> None:
        # uvloop says by a RuntimeError that its socket is closed
        with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
            await self._send_unsubscribe(subscription._id)  # noqa: SLF001
            while True:
                try:
                    await self.flush()
                    break
                except nats.errors.FlushTimeoutError:
                    continue  # it stands still: what it has sent for this may come yet
            await subscription._pending_queue.join()  # noqa: SLF001

    def _left(self, subscription: Any) -> None:
        self._leaving.pop(subscription._id, None)  # noqa: SLF001
        self._subs.pop(subscription._id, None)  # noqa: SLF001
        # one turn later: what lies in its queue is handed over
        asyncio.get_running_loop().call_soon(subscription._stop_processing)  # noqa: SLF001

    def _let_go(self) -> None:
        for sid, leaving in self._leaving.items():
            self._subs.pop(sid, None)
            leaving.cancel()

    async def _attempt_reconnect(self) -> None:
        self._let_go()
        abort(self)
        await super()._attempt_reconnect()

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        self._let_go()  # nats-py subscribes again now

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._let_go()
        if self._asking is not None:
            self._asking.cancel()
        await super()._close(status, do_cbs)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        await super()._send_ping(None if future is None else _pong_for(future))


class LeavableSubscription:
    """A subscription of nats-py, left as `SteadyClient` does it."""

    def __init__(self, client: SteadyClient, subscription: Any) -> None:
        self._client = client
        self._subscription = subscription

    async def drain(self) -> None:
        """End it once what was under way has come. If that is given up, what comes later is handed over still."""
        await self._client.leave(self._subscription)

    async def unsubscribe(self) -> None:
        """End it; what is still under way is dropped."""
        await self._client.leave_at_once(self._subscription)


def _pong_for(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    pong: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    pong.add_done_callback(lambda _: None if future.done() else future.set_result(True))
    return pong


class KeepingHeaders(dict[str, str]):
    """nats-py's parsed headers, with the block they were read from."""

    block: bytes


class KeepingClient(SteadyClient):
    """nats-py's client for its public interface, which keeps header blocks as they came.

    nats-py takes a block that is none for no headers at all, so that a broken reply would look like a result, and
    fails on a block that is shorter than its first line. Where it no longer asks this method, its own parse is what
    there is.
    """

    async def flush(self, timeout: int = 10) -> None:
        """Wait until the server has read all that is pending: the first ping is written past it, the second is not."""
        await super().flush(timeout)
        await super().flush(timeout)

    async def _process_headers(self, headers: bytes | None) -> KeepingHeaders | None:
        if not headers:
            return None
        kept = KeepingHeaders()
        kept.block = bytes(headers)
        return kept


def abort(client: Client) -> None:
    """Break the connection as it is now: a close would wait until its other end has read everything."""
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def drop_pending(client: Client) -> None:
    """Forget what was not sent, before a close without a server: nats-py would write it to a socket that is gone."""
    if hasattr(client, "_pending") and hasattr(client, "_pending_data_size"):
        client._pending = []  # noqa: SLF001
        client._pending_data_size = 0  # noqa: SLF001
