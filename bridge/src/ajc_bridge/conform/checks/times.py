"""EXEC-19 to EXEC-22, and EXEC-26: what a responder does while time passes.

Work is asked for that takes long against the time that the request gives, so that a busy machine does not blur the two.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ajc_bridge.conform.ask import Ask
from ajc_bridge.conform.checks.check import Checks, together
from ajc_bridge.conform.player import Exchange, Player
from ajc_bridge.conform.words import reply_words

CHECKS: Final = Checks()
SLACK: Final = 0.5
"""Seconds that a reply may need to arrive."""
SHORT_MS: Final = 800
"""The time that is given where it is to be too little."""
LONG_MS: Final = 3_000
"""The work that does not fit into it."""
_WATCH_SECONDS: Final = LONG_MS / 1000 + 1.0
_BEAT_MS: Final = 200
_HOUR_MS: Final = 3_600_000
_BURST: Final = 24
_BURST_MS: Final = 1_500
_ONE_SECOND: Final = 1.0


def _number(milliseconds: int) -> bytes:
    return b"%d" % milliseconds


@CHECKS.of("EXEC-19")
async def others_are_answered(player: Player) -> str | None:
    """Ask for another type while a handler works: a second, and one more for a busy machine."""
    slow = player.send(Ask(task="slow", payload=_number(LONG_MS)))
    await slow.sign(0.2)
    _served(slow)
    quick = player.send(Ask(task="echo", payload=b"meanwhile", about=f"while {player.kind('slow')} works {LONG_MS} ms"))
    reply = await quick.replied(2 * _ONE_SECOND)
    if reply is None:
        raise quick.broken("a reply within a second, busy or another", f"none within {2 * _ONE_SECOND:g} s")
    await slow.replied(_WATCH_SECONDS)  # what it says is for other checks
    return None


@CHECKS.of("EXEC-19", "alone")
async def nothing_is_queued(player: Player) -> str | None:
    """Ask for more at once than a responder commonly runs: each is begun or refused, none is put aside."""
    bound = _BURST_MS / 1000 + 2 * _ONE_SECOND
    asked = [
        player.send(Ask(task="slow", payload=_number(_BURST_MS), about=f"one of {_BURST} at once"))
        for _ in range(_BURST)
    ]
    for exchange in asked:
        await exchange.replied(max(0.0, exchange.at + bound - asyncio.get_running_loop().time()))
    _served(asked[0])
    late = [exchange for exchange in asked if exchange.reply is None]
    if late:
        await asyncio.gather(*(exchange.replied(_WATCH_SECONDS) for exchange in late))
        raise late[0].broken(
            "each answered busy within a second, or done after its own time",
            f"{len(late)} without reply for {bound:g} s: they waited their turn",
        )
    return None


@CHECKS.of("EXEC-20")
async def nothing_after_the_deadline(player: Player) -> str | None:
    """Ask for work that ends long after its time is up."""
    exchange = await player.watched(Ask(task="slow", payload=_number(LONG_MS), timeout_ms=SHORT_MS), _WATCH_SECONDS)
    _not_after(exchange, SHORT_MS)
    return None


@CHECKS.of("EXEC-22")
async def ends_at_the_deadline(player: Player) -> str | None:
    """Want an error before the deadline, since the work is not done then, or silence."""
    exchange = await player.watched(Ask(task="slow", payload=_number(LONG_MS), timeout_ms=SHORT_MS), _WATCH_SECONDS)
    reply = exchange.reply
    if reply is not None and reply.kind != "error":
        raise exchange.broken("AJ-Error just before the deadline, or no reply")
    return None


@CHECKS.of("EXEC-21")
async def clocks_disagree(player: Player) -> str | None:
    """Send AJ-Handler-Deadline an hour off, either way; AJ-Timeout-Ms is right."""
    past = Ask(task="slow", payload=b"300", skew_ms=-_HOUR_MS, about="AJ-Handler-Deadline an hour ago")
    ahead = Ask(
        task="slow",
        payload=_number(LONG_MS),
        timeout_ms=SHORT_MS,
        skew_ms=_HOUR_MS,
        about="AJ-Handler-Deadline in an hour",
    )

    async def first() -> None:
        exchange = await player.answered(past)
        if exchange.reply is None or exchange.reply.kind != "success":
            raise exchange.broken("a result: AJ-Timeout-Ms leaves time enough")

    async def second() -> None:
        _not_after(await player.watched(ahead, _WATCH_SECONDS), SHORT_MS)

    await together(first(), second())
    return None


@CHECKS.of("EXEC-26")
async def beats_give_time(player: Player) -> str | None:
    """Ask for work of twice its time, with beats."""
    work = LONG_MS * 4 // 5
    ask = Ask(task="slow", payload=_number(work), timeout_ms=work // 2, beat_ms=_BEAT_MS)
    exchange = await player.watched(ask, work / 1000 + 2.0)
    if exchange.reply is None or exchange.reply.kind != "success":
        raise exchange.broken(f"a result after {work} ms: each heartbeat gives {ask.timeout_ms} ms from then on")
    return None


@CHECKS.of("EXEC-26")
async def not_past_the_tasks_deadline(player: Player) -> str | None:
    """See that beats give no time beyond the deadline in the task's own JSON."""
    ask = Ask(task="slow", payload=_number(LONG_MS), timeout_ms=SHORT_MS, beat_ms=_BEAT_MS, deadline_ms=2 * SHORT_MS)
    exchange = await player.watched(ask, _WATCH_SECONDS)
    _not_after(exchange, 2 * SHORT_MS)
    return None


def _served(exchange: Exchange) -> None:
    if exchange.reply is not None and exchange.reply.kind == "no_responder":
        raise exchange.broken(f"a subscription to {exchange.sent.subject}")


def _not_after(exchange: Exchange, milliseconds: int) -> None:
    for reply in exchange.replies:
        if reply.at > exchange.at + milliseconds / 1000 + SLACK:
            raise exchange.broken(f"no reply later than {milliseconds} ms", reply_words(exchange, reply))
        if reply.kind == "success":
            raise exchange.broken(
                f"no result: the work takes longer than the {milliseconds} ms", reply_words(exchange, reply)
            )
