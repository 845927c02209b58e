"""What a handler gets: one attempt at one task."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Generator, MutableMapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ajc.errors import InvalidValue, Malformed, MalformedTask, Retry
from ajc.exchange import ExecRequest, clean_text
from ajc.payloads import untyped
from ajc.task import Task

if TYPE_CHECKING:
    from ajc.beats import Beats
    from ajc.service import Endpoint

Stop = Literal["cancelled", "deadline", "timeout", "ending"]
"""Why an attempt is stopped: the task was cancelled, its time or the handler's is over, the responder ends."""

_PERCENT: Final = 100
_NANOSECONDS: Final = 1e9
_NEVER: Final = math.inf
_INSTANT: Final = 0.001
_SHORTEST_MS: Final = 100
_USUAL_SHORTEST_MS: Final = 1_000
_WORDS: Final[dict[Stop, str]] = {
    "cancelled": "cancelled",
    "deadline": "the deadline passed",
    "timeout": "the handler's own time is over",
    "ending": "the responder ends",
}


class _PayloadOnly(msgspec.Struct):
    payload: bytes | None = None


_read_payload: Final = msgspec.json.Decoder(_PayloadOnly).decode


class Attempt:
    """One attempt at a task; valid until its handler returns.

    Nothing of it is decoded before it is looked at. When a reply no longer matters (the deadline has passed, the task
    was cancelled, the responder ends) an `async def` handler is cancelled, and `cancelled` is true for a plain one.
    """

    # what few attempts ever change is the class's: making one costs less
    limit = _NEVER
    """When the handler's own time is over; like `began` and `ends` by time.monotonic."""
    beat_due = _NEVER
    """When it is to beat next. Known once the clock has looked at it: see `look_ahead`."""
    beat_period = 0.0
    beats: Beats | None = None
    runner: asyncio.Task[None] | None = None
    over = False
    """Whether it was answered, or will not be."""
    silent = False
    """Whether no beat may follow: its handler has ended."""
    stopped: Stop | None = None
    interrupted = False
    _reason = ""
    _told: threading.Event | None = None

    def __init__(
        self, timeout_ms: int, headers: bytes | None, body: bytes, endpoint: Endpoint, reply: bytes = b""
    ) -> None:
        self.timeout_ms = timeout_ms
        self.endpoint = endpoint
        self.reply = reply
        self.began = now = time.monotonic()
        self.ends = now + timeout_ms / 1000
        self._headers = headers
        self._body = body

    @cached_property
    def request(self) -> ExecRequest:
        """The request as it came, with all its headers read. Raises `Retry` for one that cannot be read."""
        try:
            return ExecRequest.decode(self._headers, self._body)
        except Malformed as error:
            raise Retry(str(error)) from None

    @property
    def traced(self) -> bool:
        """Whether it may have a trace context, found out at little cost."""
        if "request" in self.__dict__:
            return self.request.traceparent is not None
        return self._headers is not None and b"\r\ntraceparent: " in self._headers  # as the bridge writes it

    @cached_property
    def task(self) -> Task:
        """The task's record as it was saved for this attempt. Raises `Retry` for a body that is none."""
        try:
            return Task.decode(self._body)
        except MalformedTask as error:
            raise Retry(str(error)) from None

    @cached_property
    def payload(self) -> Any:
        """The payload as the JSON value it is; as bytes when it is no JSON, None when there is none."""
        return untyped(self.payload_bytes)

    @cached_property
    def payload_bytes(self) -> bytes | None:
        """The payload as it was enqueued, byte for byte; None when there is none."""
        try:
            return _read_payload(self._body).payload
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.task.payload  # reads more, and says what is wrong

    @property
    def try_number(self) -> int:
        """Which try this is, from 1."""
        return self.request.try_number

    @property
    def max_tries(self) -> int:
        """The cap on tries that applies, 0 for none."""
        return self.request.max_tries

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of this attempt (`traceparent`), None when there is none."""
        return self.request.traceparent

    @property
    def tracestate(self) -> str | None:
        """What the trace's systems keep beside it (`tracestate`), None when there is nothing."""
        return self.request.tracestate

    @property
    def deadline(self) -> datetime:
        """Until when a reply counts, as an aware time by the bridge's clock; each beat moves it."""
        moved = min(self.ends, self.limit) - self.began - self.timeout_ms / 1000
        return self.request.deadline.plus(round(moved * _NANOSECONDS)).to_datetime()

    def remaining(self) -> float:
        """Return the seconds until the deadline, 0 when it has passed; independent of what clocks say."""
        return 0.0 if self.stopped else max(0.0, min(self.ends, self.limit) - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether a reply no longer matters; `cancel_reason` says why. For loops to look at."""
        return self.stopped is not None or self.remaining() <= 0

    @property
    def cancel_reason(self) -> str:
        """Why it is cancelled ("" while it is not): `cancelled: <reason>`, or words for a time that is over."""
        if self.stopped is None:
            return "" if self.remaining() > 0 else _WORDS["deadline" if self.ends <= self.limit else "timeout"]
        return f"{_WORDS[self.stopped]}: {self._reason}" if self._reason else _WORDS[self.stopped]

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep so many seconds in a plain `def`, less when it is cancelled meanwhile; return `cancelled`."""
        until = time.monotonic() + seconds
        if self._told is None:
            self._told = threading.Event()
        while not self.cancelled and (left := until - time.monotonic()) > 0:
            self._told.wait(min(left, self.remaining() + _INSTANT))  # a beat may move the deadline meanwhile
        return self.cancelled

    def stop(self, why: Stop, reason: str = "") -> None:
        """Tell the handler to stop: its reply no longer matters. The first word stays. To be called on the loop."""
        self.interrupted = self.interrupted or why == "ending"
        if self.stopped is None:
            self._reason = clean_text(reason)
            self.stopped = why
        if self._told is not None:
            self._told.set()
        if self.runner is not None:  # one that has not begun will look
            self.runner.cancel()

    @property
    def heartbeat_subject(self) -> str:
        """Where to beat, "" for nowhere; likewise when the request cannot be read."""
        try:
            return self.request.heartbeat_subject or ""
        except Retry:
            return ""

    def look_ahead(self) -> None:
        """Set when to beat: what the clock does once it sees an attempt, and those that ended before never need.

        The period is half of what was asked for, so that one beat may be late.
        """
        if not self.endpoint.handler.heartbeat or not self.heartbeat_subject:
            self.beat_period = _NEVER
            return
        asked = self.request.heartbeat_ms or 0
        if asked <= 0:
            asked = max(self.timeout_ms // 3, _USUAL_SHORTEST_MS)
        period = max(asked, _SHORTEST_MS) / 2000
        self.beat_due = self.began + period
        self.beat_period = period

    def beaten(self, now: float) -> None:
        """Move the deadline: a beat gives a whole run time from `now` (time.monotonic), within the task's deadline.

        A time that is over stays over, also in a process that stood still meanwhile: the bridge counts alike.
        """
        if now >= self.ends:
            return
        self.ends = max(self.ends, min(now + self.timeout_ms / 1000, self._task_ends))

    @cached_property
    def _task_ends(self) -> float:
        """When the task's own deadline passes, on this machine's monotonic clock."""
        try:
            deadline = self.task.deadline
        except Retry:
            return _NEVER
        if deadline is None:
            return _NEVER
        # both times are the bridge's: its clock need not agree with this one
        return self.began + self.timeout_ms / 1000 + (deadline - self.request.deadline) / _NANOSECONDS

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What log lines tell of it, never failing: of a request that cannot be read the type alone."""
        try:
            request = self.request
        except Retry:
            return {"task_id": "", "task_type": self.endpoint.handler.type, "queue": "", "try_number": 0}
        return {
            "task_id": request.task_id,
            "task_type": request.type,
            "queue": request.queue,
            "try_number": request.try_number,
        }

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `task_id`, `task_type`, `queue` and `try_number`."""
        return _TaskLogger(logging.getLogger("ajc.handler"), self.facts)

    def progress(self, percent: float | None = None, message: str = "") -> Awaitable[None]:
        """Say how far it is (0 to 100) and what is done: also a sign of life.

        `await` it, or just call it in a plain `def`, as often as you like: ten at once and ten a second are sent, of
        more the newest, and the last of all before the reply. Goes to bridges that listen for it; never fails for want
        of a connection. Raises `InvalidValue`.
        """
        if percent is not None and not 0 <= percent <= _PERCENT:
            raise InvalidValue("percent", percent, "is from 0 to 100")
        clock = self.endpoint.clock
        if clock is not None and self.heartbeat_subject and not self.silent and self.stopped is None:
            said: dict[str, Any] = {} if percent is None else {"percent": percent}
            clock.say(self, said | ({"message": clean_text(message)} if message else {}))
        return _Nothing()


class _TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the attempt's facts to each record, beside those of the call."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _Nothing:
    """An awaitable that is done already: what needed doing was done by the call."""

    def __await__(self) -> Generator[None, None, None]:
        yield from asyncio.sleep(0).__await__()
