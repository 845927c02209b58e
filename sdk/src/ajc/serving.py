"""Requests of one connection to their handlers and back; none is begun once it drains."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from ajc.attempt import Attempt
from ajc.attempt_clock import AttemptClock
from ajc.connection import Connection, Subscription
from ajc.errors import AjcError, Busy, Malformed, Retry, Terminate
from ajc.exchange import ExecRequest
from ajc.handlers import Middleware, chain
from ajc.replies import ErrorsTold, Reply, fitting, reply_to_exception
from ajc.request_head import quick_timeout, read_request
from ajc.runners import Runners
from ajc.service import Endpoint
from ajc.subjects import CANCEL_SUBJECTS, cancelled_id
from ajc.transport import drain_all
from ajc.unfit import Unfit

_logger: Final = logging.getLogger("ajc.responder")
_handler_logger: Final = logging.getLogger("ajc.handler")
_UNSUBSCRIBE_SECONDS: Final = 2.0
_SMALL: Final = 1_024  # no server has a smaller limit


class Serving:
    """What a responder does between its first subscription and the last reply."""

    def __init__(
        self,
        connection: Connection,
        endpoints: Sequence[Endpoint],
        middleware: Sequence[Middleware],
        *,
        name: str,
        errors: ErrorsTold,
    ) -> None:
        self._connection = connection
        self._endpoints = endpoints
        self._middleware = tuple(middleware)
        self._subscriptions: list[Subscription] = []
        self._clock = AttemptClock(connection, name, self._expired)
        self._runners = Runners(self._clock, self._ended, errors)
        self._verbose = _handler_logger.isEnabledFor(logging.DEBUG)
        self._draining = False
        self._idle = asyncio.Event()

    async def start(self) -> None:
        """Take requests from now on."""
        # One subscription for all tasks: one for each attempt would cost every one of them two commands, and every
        # server of a cluster two changes of its routes, for what happens to few. A cancel message is short and rare;
        # that each responder hears those of the others costs it one comparison for each attempt it runs.
        await self._connection.subscribe_raw(CANCEL_SUBJECTS, self._cancelled)
        for endpoint in self._endpoints:
            endpoint.call = chain(endpoint.handler, self._middleware)
            endpoint.clock = self._clock
            received = partial(self._received, endpoint)
            self._subscriptions.append(
                await self._connection.subscribe_raw(endpoint.subject, received, queue=endpoint.group)
            )

    async def leave(self) -> None:
        """Take no more requests: leave the queue group, and answer busy to what is on its way."""
        self._draining = True
        # what was on its way comes still, and is answered
        if not await drain_all(self._subscriptions, _UNSUBSCRIBE_SECONDS):
            _logger.debug("the server did not answer while unsubscribing")

    async def finish(self, seconds: float) -> None:
        """Let what runs finish within so many seconds, then fail the rest."""
        try:
            await self._wait_idle(seconds)
        finally:
            await self._interrupt_rest()

    async def _wait_idle(self, seconds: float) -> None:
        if self._clock.running:
            try:
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
            except TimeoutError:
                _logger.debug("%d attempts have not ended in time", len(self._clock.running))

    async def _interrupt_rest(self) -> None:
        rest = list(self._clock.running)
        for attempt in rest:
            attempt.stop("ending")
        if rest:
            _logger.warning("%d attempts were interrupted", len(rest))
            await self._wait_idle(_UNSUBSCRIBE_SECONDS)
        self._clock.close()
        for endpoint in self._endpoints:
            endpoint.handler.close()
        if self._connection.connected:
            try:
                await self._connection.flush(_UNSUBSCRIBE_SECONDS)
            except AjcError as error:
                _logger.debug("flushing: %s", error)

    def _received(self, endpoint: Endpoint, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Begin an attempt, or answer busy. Called as the message arrives."""
        if not reply:
            _logger.warning("a message on %s wants no reply, and was left alone", subject.decode("utf-8", "replace"))
            return
        endpoint.requests += 1
        handler = endpoint.handler
        if self._draining:
            self._send(endpoint, reply, reply_to_exception(Busy("the responder is ending")))
            return
        if handler.running >= handler.concurrency:
            self._send(endpoint, reply, reply_to_exception(Busy(f"{handler.concurrency} attempts run already")))
            return
        timeout_ms = quick_timeout(headers)
        request: ExecRequest | None = None
        if timeout_ms < 0:
            request = self._read(endpoint, reply, body, headers)
            if request is None:
                return
            timeout_ms = request.timeout_ms
        attempt = Attempt(timeout_ms, headers, body, endpoint, reply)
        if request is not None:
            attempt.request = request
        if timeout_ms <= 0:
            self._late(attempt)
            return
        handler.running += 1
        self._clock.begin(attempt)
        self._runners.add(attempt)

    def _read(self, endpoint: Endpoint, reply: bytes, body: bytes, headers: bytes | None) -> ExecRequest | None:
        """Read a request in full, or answer that it cannot be run here."""
        try:
            return read_request(headers, body)
        except Malformed as error:
            _logger.warning("a request on %s cannot be read: %s", endpoint.subject, error)
            self._send(endpoint, reply, reply_to_exception(Retry(str(error))))
        except Busy as error:
            self._send(endpoint, reply, reply_to_exception(error))
        return None

    def _ended(self, attempt: Attempt, answer: Reply | bytes | None) -> None:
        """Answer as the handler did, unless its time was over before. Called by its runner, once."""
        now = time.monotonic()
        endpoint = attempt.endpoint
        if not attempt.over:
            attempt.over = True
            if attempt.stopped is not None or now >= attempt.ends or answer is None:
                self._stopped(attempt, answer)
            elif answer.__class__ is bytes and len(answer) <= _SMALL and not self._verbose:
                self._publish(
                    b"PUB %b  %d\r\n%b\r\n" % (attempt.reply, len(answer), answer)
                )  # the most common, at once
            else:
                self._answer(attempt, answer)
        endpoint.handler.running -= 1
        endpoint.processing += now - attempt.began
        del self._clock.running[attempt]
        if self._draining and not self._clock.running:
            self._idle.set()

    def _stopped(self, attempt: Attempt, answer: Reply | bytes | None) -> None:
        """Answer for a handler that ended after its time, or because the responder ends."""
        if attempt.stopped != "ending" or time.monotonic() >= attempt.ends:
            self._late(attempt)
            return
        if answer is None or (isinstance(answer, Reply) and answer.error is not None):
            answer = reply_to_exception(Retry("interrupted: the responder ended"))
        self._answer(attempt, answer)

    def _expired(self, attempt: Attempt) -> None:
        """Stop an attempt whose time is over, or that of its handler. Called by the clock."""
        if attempt.ends <= time.monotonic():
            attempt.stop("deadline")
            self._late(attempt)
        else:
            attempt.stop("timeout")
            self._answer(attempt, reply_to_exception(Retry(f"not done within {attempt.endpoint.handler.timeout:g} s")))

    def _cancelled(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Stop the attempts of a task that was cancelled. Called as the message arrives."""
        del reply, headers
        task_id = cancelled_id(subject)
        for attempt in list(self._clock.running):
            if attempt.facts["task_id"] == task_id and not attempt.over and attempt.stopped is None:
                attempt.stop("cancelled", body.decode("utf-8", "replace"))
                self._answer(attempt, reply_to_exception(Terminate(attempt.cancel_reason)))

    def _late(self, attempt: Attempt) -> None:
        attempt.over = True
        attempt.endpoint.failed("the deadline passed")
        attempt.logger.warning(
            "task %s (%s), try %d: the deadline passed after %g s; no reply is sent",
            attempt.facts["task_id"],
            attempt.endpoint.handler.type,
            attempt.facts["try_number"],
            attempt.ends - attempt.began,
        )

    def _answer(self, attempt: Attempt, answer: Reply | bytes) -> None:
        attempt.over = True
        reply = answer if isinstance(answer, Reply) else Reply(answer)
        reply = self._send(attempt.endpoint, attempt.reply, reply)
        if reply.error is not None or self._verbose:
            _log(attempt, reply)

    def _send(self, endpoint: Endpoint, reply: bytes, answer: Reply) -> Reply:
        """Send the one reply, count it, and return what was sent: another one where the server would not take it."""
        body = answer.body
        size = len(body)
        if size > _SMALL or answer.headers is not None:
            answer = fitting(answer, self._connection.max_payload)  # else the server would close the connection
        if answer.headers is None:
            command = b"PUB %b  %d\r\n%b\r\n" % (reply, size, body)
        else:
            if answer.word == "busy":
                endpoint.busy += 1
            else:
                endpoint.failed(answer.text)
            size = len(answer.headers)
            command = b"HPUB %b  %d %d\r\n%b\r\n" % (reply, size, size, answer.headers)
        self._publish(command)
        return answer

    def _publish(self, command: bytes) -> None:
        try:
            self._connection.send(command)
        except AjcError as error:
            _logger.warning("a reply was lost: %s", error)


def _log(attempt: Attempt, answer: Reply) -> None:
    which = attempt.facts["task_id"], attempt.endpoint.handler.type, attempt.facts["try_number"]
    if answer.word == "error":
        # not the handler's own word for it: the trace is wanted
        attempt.logger.warning("task %s (%s), try %d: the handler failed", *which, exc_info=answer.error)
    elif isinstance(answer.error, Unfit):
        attempt.logger.warning("task %s (%s), try %d: %s", *which, answer.text)
    else:
        text = f"{answer.word}: {answer.text}" if answer.text else answer.word
        attempt.logger.debug("task %s (%s), try %d: answered %s", *which, text)
