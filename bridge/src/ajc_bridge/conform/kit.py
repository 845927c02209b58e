"""One run of the kit: the checks of a level in their order, and a verdict for each rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import Unavailable
from ajc_bridge.conform.checks import CHECKS
from ajc_bridge.conform.checks.check import Check
from ajc_bridge.conform.checks.life import STAGES, STARTED_AGAIN, Life, Server
from ajc_bridge.conform.checks.subscriptions import taken
from ajc_bridge.conform.player import Player
from ajc_bridge.conform.program import Program
from ajc_bridge.conform.rules import BY_NAME, Level, Rule, rules_for
from ajc_bridge.conform.verdict import Broken, NotApplicable, NotTried, Result, Verdict, highest_level, verdict_of

_QUICK: Final = (Level.L0, Level.L1)
_T = TypeVar("_T")
_LOOK_SECONDS: Final = 0.1
_LOST_SECONDS: Final = 3.0
_OWN_LOST_SECONDS: Final = 30.0  # it is taken away for a while, and may start slowly


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried. `wait`: seconds until the responder serves; `server`: where it is the kit's own."""

    family: str
    level: Level
    prefix: str
    wait: float
    only: frozenset[str] = frozenset()
    program: Program | None = None
    server: Server | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `highest`: the highest level that passed, None for none, and when not all rules were asked for.

    `gave_up`: why some rules were not tried, "" when all were; `unkept`: messages of the responder beyond those kept.
    """

    family: str
    prefix: str
    level: str
    highest: str | None
    complete: bool
    gave_up: str
    unkept: int
    verdicts: tuple[Verdict, ...]

    @property
    def ok(self) -> bool:
        """Whether no rule failed, and all were tried."""
        return not any(verdict.outcome in ("failed", "not tried") for verdict in self.verdicts)


async def examine(options: ConnectOptions, setup: Setup) -> Report:
    """Try all rules of the level, or those of `only`, and return what was found.

    Raises `Unavailable` and `Closed` when there is no server, or none any more, and `InvalidValue` when the command
    cannot be started. The command, where there is one, is running afterwards, or has ended.
    """
    connection = await Connection.open(options, name="ajc-bridge conform", private_inbox=True)
    try:
        player = await Player.open(connection, setup.prefix, setup.family)
        run = _Run(Life(player, setup.wait, setup.program, setup.server), setup)
        verdicts = await _while_connected(
            connection, run.verdicts(), _LOST_SECONDS if setup.server is None else _OWN_LOST_SECONDS
        )
    finally:
        await connection.close()
    highest = highest_level(verdicts, setup.level) if not setup.only else None
    return Report(
        family=setup.family,
        prefix=setup.prefix,
        level=str(setup.level),
        highest=highest and str(highest),
        complete=not setup.only,
        gave_up=run.gave_up,
        unkept=player.unkept,
        verdicts=tuple(verdicts),
    )


async def _while_connected(connection: Connection, work: Coroutine[Any, Any, _T], seconds: float) -> _T:
    """Return what the work does; `Unavailable` once there was no server for so long, and when there is none at its end.

    Each check waits for replies in its own time, and without a server none can come: minutes for nothing.
    """
    loop = asyncio.get_running_loop()
    working = loop.create_task(work)
    connected = loop.time()
    try:
        while not working.done() and loop.time() - connected < seconds:
            await asyncio.wait([working], timeout=_LOOK_SECONDS)
            if connection.connected:
                connected = loop.time()
        if working.done() and connection.connected:
            return working.result()
        raise Unavailable("the connection to NATS broke during the run")
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


class _Run:
    """The results so far, rule by rule."""

    def __init__(self, life: Life, setup: Setup) -> None:
        self._life = life
        self._player = life.player
        self._rules = (
            [BY_NAME[name] for name in BY_NAME if name in setup.only] if setup.only else list(rules_for(setup.level))
        )
        self._results: dict[Rule, list[Result]] = {rule: [] for rule in self._rules}
        self._seconds: dict[Rule, float] = dict.fromkeys(self._rules, 0.0)
        self.gave_up = ""

    async def verdicts(self) -> list[Verdict]:
        """Try everything."""
        await self._serving()
        checks = [check for check in CHECKS if check.rule in self._results]
        quick = [check for check in checks if check.rule.level in _QUICK and check.when != "last"]
        slow = [check for check in checks if check.rule.level not in _QUICK and check.when != "last"]
        for some in (quick, slow):
            await self._together([check for check in some if check.when == "together"])
            for check in some:
                if check.when == "alone" and not any(isinstance(one, Broken) for one in self._results[check.rule]):
                    await self._together([check])
        await self._together([check for check in checks if check.when == "last"])
        for stage in STAGES:
            if stage.rule in self._results:
                if stage.on_a_running_command:
                    await self._alive()
                await self._tried(stage.rule, partial(stage.run, self._life))
        return [verdict_of(rule, self._results[rule], self._seconds[rule]) for rule in self._rules]

    async def _serving(self) -> None:
        """See the responder serve; without that each check would wait for itself, for minutes in all."""
        if self._life.program is not None:
            if self._life.server is None:
                before = await taken(self._player)
                self._player.taken_before = before[0].sent.subject if before else ""
            self._player.alone = not self._player.taken_before
            served = await self._life.starts()
        else:
            served = await self._life.serves(self._life.wait)
        self.gave_up = "" if served else await self._life.unserved()

    async def _alive(self) -> None:
        """Start the command again if it has ended: one rule that it does not keep is not to fail them all."""
        if self._life.program is None or self._life.program.code is None or self.gave_up:
            return
        self._life.program.note_end()
        self.gave_up = "" if await self._life.starts() else await self._life.unserved()
        if self.gave_up and STARTED_AGAIN in self._results:
            expected = f"{self._player.kind('echo')} served within {self._life.wait:g} s"
            self._results[STARTED_AGAIN].append(Broken("the command again, after it ended", expected, self.gave_up))

    async def _together(self, checks: Sequence[Check]) -> None:
        if checks:
            await self._alive()
            await asyncio.gather(*(self._tried(check.rule, partial(check.run, self._player)) for check in checks))

    async def _tried(self, rule: Rule, check: Callable[[], Awaitable[str | None]]) -> None:
        if self.gave_up:
            self._results[rule].append(NotTried())
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._results[rule].append(await check())
        except (Broken, NotApplicable) as found:
            self._results[rule].append(found)
        self._seconds[rule] += loop.time() - began
