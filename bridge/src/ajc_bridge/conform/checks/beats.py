"""EXEC-23 to EXEC-25, and EXEC-27: beats, and the progress in them."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, Final

import msgspec

from ajc_bridge.conform.ask import Ask
from ajc_bridge.conform.checks.check import Checks
from ajc_bridge.conform.player import Exchange, Player
from ajc_bridge.conform.words import reply_words, shown

CHECKS: Final = Checks()
BEAT_MS: Final = 200
_WORK_MS: Final = 2_400
_GAP_SECONDS: Final = 3 * BEAT_MS / 1000 + 0.4
"""Three missed beats, after which a bridge would give the attempt up, and a bit for a busy machine."""
_EXPECTED: Final = _WORK_MS // BEAT_MS
_AFTER_SECONDS: Final = 4 * BEAT_MS / 1000
_ON_ITS_WAY: Final = 0.1
_QUARTERS: Final = [(quarter * 25, f"quarter {quarter} of 4") for quarter in range(1, 5)]


async def _worked(player: Player) -> Exchange:
    return await player.answered(Ask(task="slow", payload=b"%d" % _WORK_MS, beat_ms=BEAT_MS))


@CHECKS.of("EXEC-23")
async def beats_as_often_as_asked(player: Player) -> str | None:
    """Want a first beat early on, and half of the expected ones at least."""
    exchange = await _worked(player)
    count = len(exchange.beats)
    expected = f"a heartbeat every {BEAT_MS} ms for {_WORK_MS} ms, from the start on"
    if not count:
        raise exchange.broken(expected, "no heartbeat")
    first = exchange.beats[0].at - exchange.at
    if first > _GAP_SECONDS:
        raise exchange.broken(expected, f"the first heartbeat after {first * 1000:.0f} ms")
    if count < _EXPECTED // 2:
        raise exchange.broken(expected, f"{count} heartbeats where {_EXPECTED} belong")
    return None


@CHECKS.of("EXEC-24")
async def beats_while_it_blocks(player: Player) -> str | None:
    """Want no pause, from the request to the reply, that three missed beats would not explain."""
    exchange = await _worked(player)
    reply = exchange.reply
    assert reply is not None
    moments = [exchange.at, *(beat.at for beat in exchange.beats if beat.at < reply.at), reply.at]
    longest = max(later - earlier for earlier, later in pairwise(moments))
    if longest > _GAP_SECONDS:
        raise exchange.broken(
            f"a heartbeat every {BEAT_MS} ms until the reply",
            f"{len(exchange.beats)} heartbeats, and none for {longest * 1000:.0f} ms",
        )
    return None


@CHECKS.of("EXEC-25")
async def no_beats_after_the_reply(player: Player) -> str | None:
    """Want none for a while after the reply; none at all where no subject was given."""
    asks = [Ask(task="slow", payload=b"700", beat_ms=beat_ms) for beat_ms in (BEAT_MS, 0)]
    asked = await asyncio.gather(*(player.answered(ask) for ask in asks))
    await asyncio.sleep(_AFTER_SECONDS)
    for exchange in asked:
        _quiet(exchange)
    return None


@CHECKS.of("EXEC-25", "last")
async def no_beats_after_any_reply(player: Player) -> str | None:
    """Look over all that was asked."""
    await asyncio.sleep(_AFTER_SECONDS)
    for exchange in player.exchanges:
        _quiet(exchange)
    return None


def _quiet(exchange: Exchange) -> None:
    if not exchange.beats:
        return
    if not exchange.sent.ask.beat_ms:
        seen = f"{len(exchange.beats)} heartbeats"
        raise exchange.broken("no heartbeat: the request names no subject for them", seen)
    reply = exchange.reply
    late = [beat for beat in exchange.beats if reply is not None and beat.at > reply.at + _ON_ITS_WAY]
    if late and reply is not None:
        seen = f"{reply_words(exchange, reply)}, and {len(late)} heartbeats after it"
        raise exchange.broken("no heartbeat after the reply", seen)


@CHECKS.of("EXEC-27")
async def progress_is_told(player: Player) -> str | None:
    """Want four quarters, in their order, with their messages; the same work done where nobody listens."""
    exchange = await player.answered(Ask(task="progress", beat_ms=BEAT_MS))
    unheard = await player.answered(Ask(task="progress", about="without AJ-Heartbeat-Subject"))
    for each in (exchange, unheard):
        assert each.reply is not None
        if each.reply.kind != "success" or each.reply.body != b"done":
            raise each.broken("the result 'done'")
    seen = [_progress(beat.body) for beat in exchange.beats if beat.body]
    if seen != _QUARTERS:
        raise exchange.broken(
            "heartbeats with the percents 25, 50, 75 and 100 and the messages 'quarter 1 of 4' and so on",
            ", ".join(shown(beat.body) for beat in exchange.beats if beat.body) or "no heartbeat with a body",
        )
    return None


def _progress(body: bytes) -> tuple[Any, Any] | None:
    try:
        told = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return (told.get("percent"), told.get("message")) if isinstance(told, dict) else None
