"""The way to responders, in memory: what each subject answers is a script."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec.structs import replace

from ajc.errors import TooLarge, Unavailable
from ajc.exchange import ExecReply, ExecRequest
from ajc.subjects import beat_subject
from ajc.testing.memory.line import Line

Script: TypeAlias = ExecReply | Callable[[ExecRequest], "ExecReply | Awaitable[ExecReply | None] | None"] | None
"""One answer: a reply, silence (None), or a function of the request that returns or awaits either."""

Beaten: TypeAlias = Callable[[bytes], "float | None"]
"""What a beat's body is given to; returns until when the attempt has time now, None when a beat changes nothing."""

_ROOM_SECONDS = 0.05


class MemoryExchange:
    """Subjects with their scripts; a subject without one answers that nobody is there."""

    def __init__(self, line: Line, limit: int) -> None:
        self.limit = limit
        self.requests: list[tuple[str, ExecRequest]] = []
        """Every request that went out, with its subject."""
        self.ignored = 0
        """Beats that changed nothing."""
        self.under_way = 0
        self.most_under_way = 0
        self._line = line
        self._scripts: dict[str, list[Script]] = {}
        self._offered = 0
        self._beating: dict[str, tuple[Beaten, asyncio.Timeout]] = {}
        self._loop = asyncio.get_running_loop()

    def answer(self, subject: str, *scripts: Script) -> None:
        """Serve a subject: one script a request in this order, the last one from then on. None at all: nobody there."""
        self._scripts[subject] = list(scripts)

    def beat(self, request: ExecRequest, body: bytes = b"") -> None:
        """Beat as the responder does that was asked so."""
        beaten, passing = self._beating.get(request.heartbeat_subject or "", (None, None))
        until = beaten(body) if beaten is not None and self._line.up else None
        if until is None or passing is None or passing.expired():
            self.ignored += 1
        else:
            passing.reschedule(until)

    async def request(
        self,
        subject: str,
        request: ExecRequest,
        until: float,
        *,
        send_by: float | None = None,
        beaten: Beaten | None = None,
    ) -> ExecReply | None:
        """Ask; None at `until`. Without a server it waits for one, and raises `Unavailable` when none came in time.

        With `beaten` the request has a subject to `beat` on.
        """
        if beaten is not None:
            self._offered += 1
            request = replace(request, heartbeat_subject=beat_subject("memory", str(self._offered)))
        size = len(request.headers()) + len(request.body)
        if size > self.limit:
            raise TooLarge("message", size, self.limit)
        send_by = until if send_by is None else min(until, send_by)
        while not self._line.up:
            if self._loop.time() >= send_by:
                raise Unavailable("no server in time")
            await asyncio.sleep(_ROOM_SECONDS)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            async with asyncio.timeout_at(until) as passing:
                if beaten is not None and request.heartbeat_subject is not None:
                    self._beating[request.heartbeat_subject] = beaten, passing
                lost = await self._line.cross("exchange.request", request.task_id)
                self.requests.append((subject, request))
                reply = await self._play(subject, request)
                if lost is not None:
                    raise lost
                return reply
        except TimeoutError:
            if not passing.expired():
                raise
            return None
        finally:
            self._beating.pop(request.heartbeat_subject or "", None)
            self.under_way -= 1

    async def _play(self, subject: str, request: ExecRequest) -> ExecReply | None:
        scripts = self._scripts.get(subject)
        if not scripts:
            return ExecReply("no_responder")
        script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        reply = script(request) if callable(script) else script
        if inspect.isawaitable(reply):
            reply = await reply
        if reply is None:
            await asyncio.Event().wait()  # silence, until the time is over
        return reply
