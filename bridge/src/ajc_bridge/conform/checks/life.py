"""EXEC-34 to EXEC-36: what becomes of a responder that is told to end, is killed, or loses its server.

These need more than a connection: a command that the kit may start, and for EXEC-35 a server that it may stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from ajc_bridge.conform.ask import Ask
from ajc_bridge.conform.player import GRACE_SECONDS, Exchange, Player
from ajc_bridge.conform.program import Program, code_words
from ajc_bridge.conform.rules import BY_NAME, Rule
from ajc_bridge.conform.verdict import Broken, NotApplicable
from ajc_bridge.conform.words import reply_words

_WORK_MS: Final = 3_000
_END_SECONDS: Final = 10.0
_AWAY_SECONDS: Final = 2.5
_BACK_SECONDS: Final = 20.0
_PROBE_SECONDS: Final = 0.05


class Server(Protocol):
    """A server of the kit's own, which keeps its port."""

    def start(self) -> object:
        """Start it, and return when it takes connections."""

    def stop(self) -> None:
        """End it at once."""


class Life(msgspec.Struct, frozen=True):
    """What these checks work with. `wait`: seconds that the command may take until it serves."""

    player: Player
    wait: float
    program: Program | None = None
    server: Server | None = None

    @property
    def command(self) -> Program:
        """The command; `NotApplicable` without one."""
        if self.program is None:
            raise NotApplicable("the kit can end and start the responder with --start only")
        return self.program

    async def starts(self) -> bool:
        """Start the command, and tell whether it serves in time."""
        self.command.start()
        return await self.serves(self.wait)

    async def serves(self, seconds: float) -> bool:
        """Wait until the responder serves, at most so long; it ends earlier when the command does."""
        serving = asyncio.ensure_future(self.player.serves("echo", seconds))
        try:
            while not serving.done() and (self.program is None or self.program.code is None):
                await asyncio.wait([serving], timeout=_PROBE_SECONDS)
            served = serving.done() and serving.result()
            if self.program is not None and not served:
                self.program.note_end()
                if self.program.code is None:
                    self.program.note_trouble(f"the command runs, but nobody serves {self.player.kind('echo')}")
            return served
        finally:
            serving.cancel()

    async def unserved(self) -> str:
        """Return why nothing can be tried, in words; "" when somebody is there, who may be silent."""
        kind = self.player.kind("echo")
        code = self.program.code if self.program is not None else None
        if not await self.player.gone("echo", 0 if code is None else GRACE_SECONDS):
            return ""
        if code is not None:
            return f"the command ended by itself ({code_words(code)}), and nobody serves {kind} (503)"
        return f"nobody serves {kind} (503) within {self.wait:g} s"


async def drains(life: Life) -> str | None:
    """Send SIGTERM while a handler works: nobody else gets in, the work is answered, the exit code is 0."""
    command, player = life.command, life.player
    ask = Ask(task="slow", payload=b"%d" % _WORK_MS, beat_ms=200, about="then SIGTERM while it works")
    working = await player.begun(ask)
    if working.reply is not None:
        raise working.broken(f"work of {_WORK_MS} ms")
    command.terminate()
    probes: list[Exchange] = []
    left = False
    limit = working.at + _WORK_MS / 1000 + _END_SECONDS
    while not (left or working.replies or command.code is not None or asyncio.get_running_loop().time() > limit):
        probe = player.send(Ask(task="echo", payload=b"at the end", about="sent after SIGTERM"))
        reply = await probe.replied(1.0)
        left = reply is not None and reply.kind == "no_responder"
        if not left:
            probes.append(probe)
        await asyncio.sleep(_PROBE_SECONDS)
    await working.replied(max(0.0, limit - asyncio.get_running_loop().time()) if command.code is None else 1.0)
    code = await command.ended(_END_SECONDS)
    if [reply.kind for reply in working.replies] != ["success"]:
        raise working.broken(
            "the result of what was running", f"{reply_words(working, working.reply)}; {code_words(code)}"
        )
    if not left:
        raise working.broken("503 for new requests while it finishes", "it goes on taking requests")
    for probe in probes:
        if probe.reply is None:
            raise probe.broken("a reply, AJ-Busy for one", "it was taken, and never answered")
    if code != 0:
        raise working.broken("exit code 0 once the work is answered", code_words(code))
    return None


async def serves_again(life: Life) -> str | None:
    """Send SIGKILL, then the same command once more."""
    command, player = life.command, life.player
    command.kill()
    sent = "SIGKILL, then the command again"
    if not await player.gone("echo", GRACE_SECONDS):
        raise NotApplicable(f"somebody else serves {player.kind('echo')} here, too")
    if not await life.starts():
        raise Broken(sent, f"{player.kind('echo')} served within {life.wait:g} s", _state(command))
    return None


async def comes_back(life: Life) -> str | None:
    """Take the server away for a while; whether it would come back for ever is not tried."""
    if life.program is None or life.server is None:
        raise NotApplicable("the kit can stop a server of its own only: --start without --server")
    life.server.stop()
    await asyncio.sleep(_AWAY_SECONDS)
    await asyncio.to_thread(life.server.start)
    await life.player.connection.wait_connected()
    if not await life.serves(_BACK_SECONDS):
        sent = f"the server stopped, and started again after {_AWAY_SECONDS:g} s"
        expected = f"{life.player.kind('echo')} served again within {_BACK_SECONDS:g} s"
        raise Broken(sent, expected, _state(life.command))
    return None


def _state(command: Program) -> str:
    return "nobody serves it; " + (
        "the command is running" if command.code is None else f"the command has ended: {code_words(command.code)}"
    )


STARTED_AGAIN: Final = BY_NAME["EXEC-36"]
"""The rule that a command does not keep which serves only the first time that it is started."""


class Stage(msgspec.Struct, frozen=True):
    """One of these checks, in its turn.

    `on_a_running_command`: it needs the command alive, so one that has ended is started again first. A stage without
    this takes the command as the stage before has left it: it is itself about what the command lives through.
    """

    rule: Rule
    run: Callable[[Life], Awaitable[str | None]]
    on_a_running_command: bool = True


STAGES: Final = (
    Stage(BY_NAME["EXEC-34"], drains),
    Stage(STARTED_AGAIN, serves_again),
    Stage(BY_NAME["EXEC-35"], comes_back, on_a_running_command=False),
)
