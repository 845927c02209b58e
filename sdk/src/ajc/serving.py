"""Requests of one connection to their handlers and back; none is begun once it drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from ajc.attempt import Attempt
from ajc.connection import Connection, Message, Subscription
from ajc.errors import AjcError, Busy, Malformed, Retry
from ajc.exchange import ExecRequest
from ajc.handlers import Handler, Middleware, Reply, answer, reply_to_exception
from ajc.task import Task

_logger: Final = logging.getLogger("ajc.responder")
_UNSUBSCRIBE_SECONDS: Final = 2.0


class Serving:
    """What a responder does between its first subscription and the last reply."""

    def __init__(self, connection: Connection, handlers: Sequence[Handler], middleware: Sequence[Middleware]) -> None:
        self._connection = connection
        self._handlers = handlers
        self._middleware = tuple(middleware)
        self._subscriptions: list[Subscription] = []
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._draining = False

    async def subscribe(self, subject: str, handler: Handler, group: str) -> None:
        """Take requests for this handler from now on."""
        self._subscriptions.append(
            await self._connection.subscribe(subject, partial(self._received, handler), queue=group)
        )

    async def drain(self, seconds: float) -> None:
        """Take no more requests, let what runs finish within so many seconds, then fail the rest."""
        self._draining = True
        try:
            await self._unsubscribe()
            if self._attempts and seconds > 0:
                await asyncio.wait(list(self._attempts), timeout=seconds)
        finally:
            await self._cancel_rest()

    async def _unsubscribe(self) -> None:
        try:
            async with asyncio.timeout(_UNSUBSCRIBE_SECONDS):
                # what was on its way comes still, and is answered
                await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        except TimeoutError:
            _logger.debug("the server did not answer while unsubscribing")

    async def _cancel_rest(self) -> None:
        rest = list(self._attempts)
        for task in rest:
            self._attempts[task].cancel(interrupted=True)
            task.cancel()
        if rest:
            _logger.warning("%d attempts were interrupted", len(rest))
            await asyncio.wait(rest, timeout=_UNSUBSCRIBE_SECONDS)
        for handler in self._handlers:
            handler.close()
        if self._connection.connected:
            try:
                await self._connection.flush(_UNSUBSCRIBE_SECONDS)
            except AjcError as error:
                _logger.debug("flushing: %s", error)

    def _received(self, handler: Handler, message: Message) -> None:
        """Begin an attempt, or answer busy. Called by the reading loop."""
        if not message.reply:
            _logger.warning("a message on %s wants no reply, and was left alone", message.subject)
            return
        if self._draining:
            self._send(message, reply_to_exception(Busy("the responder is ending")))
            return
        if handler.running >= handler.concurrency:
            self._send(message, reply_to_exception(Busy(f"{handler.concurrency} attempts run already")))
            return
        try:
            request = ExecRequest.decode(message.headers, message.body)
            attempt = Attempt(request, Task.decode(message.body), self._connection)
        except Malformed as error:
            _logger.warning("a request on %s cannot be read: %s", message.subject, error)
            self._send(message, reply_to_exception(Retry(str(error))))
            return
        handler.running += 1
        running = asyncio.get_running_loop().create_task(self._attempted(handler, attempt, message))
        self._attempts[running] = attempt
        running.add_done_callback(partial(self._ended, handler))

    async def _attempted(self, handler: Handler, attempt: Attempt, message: Message) -> None:
        try:
            reply = await answer(handler, attempt, self._middleware, self._connection.max_payload)
        except asyncio.CancelledError:
            self._send(message, reply_to_exception(Retry("interrupted: the responder ended")))
            raise
        if reply is None:
            request = attempt.request
            attempt.logger.warning(
                "task %s (%s), try %d: the deadline passed after %g s; no reply is sent",
                *(attempt.task.id, request.type, attempt.try_number, request.timeout_ms / 1000),
            )
            return
        _log(attempt, reply)
        self._send(message, reply)

    def _ended(self, handler: Handler, running: asyncio.Task[None]) -> None:
        handler.running -= 1
        del self._attempts[running]
        if not running.cancelled() and (error := running.exception()) is not None:
            _logger.error("an attempt was not answered", exc_info=error)

    def _send(self, message: Message, reply: Reply) -> None:
        try:
            self._connection.publish(message.reply, reply.body, headers=reply.headers)
        except AjcError as error:
            _logger.warning("a reply was lost: %s", error)


def _log(attempt: Attempt, reply: Reply) -> None:
    if reply.word == "error":
        # not the handler's own word for it: the trace is wanted
        attempt.logger.warning("the handler failed", exc_info=reply.error)
    else:
        attempt.logger.debug("answered: %s", reply.word if reply.error is None else f"{reply.word}: {reply.error}")
