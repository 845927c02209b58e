"""What a handler gets: one attempt at one task."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Generator, MutableMapping
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec

from ajc.connection import Connection
from ajc.errors import AjcError, InvalidValue
from ajc.exchange import ExecRequest
from ajc.payloads import untyped
from ajc.task import Task

_PERCENT: Final = 100


class Attempt:
    """One attempt at a task; valid until its handler returns.

    `task` is the record as it was saved for this attempt, `try_number` counts from 1, `max_tries` is the cap that
    applies (0 for none). `deadline` is the aware instant until which a reply counts; when it passes, an `async def`
    handler is cancelled.
    """

    def __init__(self, request: ExecRequest, task: Task, connection: Connection | None = None) -> None:
        self.request = request
        self.task = task
        self.try_number = request.try_number
        self.max_tries = request.max_tries
        self._connection = connection
        self._loop = asyncio.get_running_loop() if connection is not None else None
        self._ends = time.monotonic() + request.timeout_ms / 1000
        self._cancelled = False
        self.interrupted = False

    @cached_property
    def payload(self) -> Any:
        """The payload as the JSON value it is; as bytes when it is no JSON, None when there is none."""
        return untyped(self.task.payload)

    @property
    def deadline(self) -> datetime:
        """Until when a reply counts, by the bridge's clock."""
        return self.request.deadline.to_datetime()

    def remaining(self) -> float:
        """Return the seconds until the deadline, 0 when it has passed; independent of what clocks say."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether a reply no longer matters: the deadline has passed, or the responder ends. For loops to look at."""
        return self._cancelled or self.remaining() <= 0

    def cancel(self, *, interrupted: bool = False) -> None:
        """Mark the attempt as one whose reply no longer matters; `interrupted` when the responder itself is ending."""
        self._cancelled = True
        self.interrupted = self.interrupted or interrupted

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `task_id`, `task_type`, `queue` and `try_number`."""
        facts = {
            "task_id": self.task.id,
            "task_type": self.request.type,
            "queue": self.request.queue,
            "try_number": self.try_number,
        }
        return _TaskLogger(logging.getLogger("ajc.handler"), facts)

    def progress(self, percent: float | None = None, message: str = "") -> Awaitable[None]:
        """Say how far it is (0 to 100) and what is done: also a sign of life.

        `await` it, or just call it in a plain `def`. Sent to bridges that listen for it; never fails for want of a
        connection. Raises `InvalidValue`.
        """
        if percent is not None and not 0 <= percent <= _PERCENT:
            raise InvalidValue("percent", percent, "is from 0 to 100")
        if self._connection is not None and self._loop is not None and self.request.heartbeat_subject:
            said = {} if percent is None else {"percent": percent}
            body = msgspec.json.encode(said | ({"message": message} if message else {})) if said or message else b""
            self._loop.call_soon_threadsafe(self._beat, body)
        return _Nothing()

    def _beat(self, body: bytes) -> None:
        assert self._connection is not None
        try:
            self._connection.publish(self.request.heartbeat_subject or "", body)
        except AjcError as error:
            self.logger.debug("progress was not sent: %s", error)


class _TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the attempt's facts to each record, beside those of the call."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _Nothing:
    """An awaitable that is done already: what needed doing was done by the call."""

    def __await__(self) -> Generator[None, None, None]:
        yield from asyncio.sleep(0).__await__()
