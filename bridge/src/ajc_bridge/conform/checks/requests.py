"""EXEC-4 to EXEC-8 and EXEC-10: what a responder reads in a request, and that a result comes back as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ajc_bridge.conform.ask import QUEUE, Ask, Pairs
from ajc_bridge.conform.checks.check import Checks, together
from ajc_bridge.conform.player import Exchange, Player
from ajc_bridge.conform.words import shown

CHECKS: Final = Checks()
_LARGE: Final = 90_000
"""More than a pipe holds at once; in base64 less than the 128 KiB that fit into one environment variable on Linux."""


async def _echoed(player: Player, ask: Ask) -> None:
    exchange = await player.answered(ask)
    reply = exchange.reply
    assert reply is not None
    wanted = ask.payload or b""
    expected = f"the payload as it is, {shown(wanted)}" if wanted else "an empty result"
    if reply.kind != "success":
        raise exchange.broken(expected)
    if reply.body != wanted:
        raise exchange.broken(expected, _difference(reply.body, wanted))


def _difference(seen: bytes, wanted: bytes) -> str:
    place = next((index for index, (a, b) in enumerate(zip(seen, wanted, strict=False)) if a != b), None)
    where = f", different from byte {place} on" if place else ""
    return f"{shown(seen)}, {len(seen):,} bytes where {len(wanted):,} belong{where}"


@CHECKS.of("EXEC-4")
async def payload_is_decoded(player: Player) -> str | None:
    """Send a text, which its base64 is not, and null."""
    await _echoed(player, Ask(task="echo", payload=b'{"to": "reader@example.net"}'))
    await _echoed(player, Ask(task="echo", payload=None))
    return None


@CHECKS.of("EXEC-4")
async def unknown_keys_are_ignored(player: Player) -> str | None:
    """Send keys that a later version may add, of every kind."""
    keys: dict[str, Any] = {
        "conform_text": "later",
        "conform_nested": {"payload": "bm8=", "id": "no"},
        "conform_list": [1, None, True],
        "next_try_at": "2026-11-24T08:00:00Z",
    }
    await _echoed(player, Ask(task="echo", payload=b"known", keys=keys, about="with unknown keys in the task's JSON"))
    return None


@CHECKS.of("EXEC-6")
async def unknown_headers_are_ignored(player: Player) -> str | None:
    """Send headers that a later version may add, one of them twice."""
    further = [("AJ-Conform-Later", "1"), ("X-Conform", "a"), ("X-Conform", "b"), ("AJ-Conform-Blank", "")]
    ask = Ask(task="echo", payload=b"known", rewrite=lambda pairs: further + pairs, about="with unknown headers")
    await _echoed(player, ask)
    return None


@CHECKS.of("EXEC-10")
async def results_are_bytes(player: Player) -> str | None:
    """Send all byte values, what is not UTF-8, texts that are easily changed, none at all, and much."""
    payloads = [
        bytes(range(256)),
        b"\xff\xfe\xc0\x80 not UTF-8",
        "Gr\u00fc\u00dfe \u4e16\u754c\n".encode(),
        b" blanks and line breaks \r\n\n",
        b'"a JSON text"',
        b"",
        random.Random(1).randbytes(_LARGE),  # noqa: S311  (bytes like any other)
    ]
    await together(*(_echoed(player, Ask(task="echo", payload=one)) for one in payloads))
    return None


def _about(ask: Ask, exchange: Exchange) -> dict[str, Any]:
    sent = exchange.sent
    return {
        "id": sent.task_id,
        "type": sent.type,
        "queue": QUEUE,
        "try": ask.try_number,
        "max_tries": ask.max_tries,
    }


async def _told(player: Player, ask: Ask) -> None:
    exchange = await player.answered(ask)
    reply = exchange.reply
    assert reply is not None
    wanted = _about(ask, exchange)
    expected = f"the JSON {msgspec.json.encode(wanted).decode()}"
    if reply.kind != "success":
        raise exchange.broken(expected)
    try:
        seen = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        raise exchange.broken(expected) from None
    if not isinstance(seen, dict) or any(not _same(seen.get(key), value) for key, value in wanted.items()):
        raise exchange.broken(expected, shown(reply.body, 200))


def _same(seen: object, wanted: object) -> bool:
    return seen == wanted and isinstance(seen, bool) == isinstance(wanted, bool)


def _renamed(change: Callable[[str], str]) -> Callable[[Pairs], Pairs]:
    return lambda pairs: [(change(name), value) for name, value in pairs]


@CHECKS.of("EXEC-5")
async def names_have_no_case(player: Player) -> str | None:
    """Send the headers in small and in capital letters, and in both in turn."""
    ways = {
        "in small letters": str.lower,
        "in capital letters": str.upper,
        "in mixed letters": lambda name: "".join(
            one.upper() if index % 2 else one.lower() for index, one in enumerate(name)
        ),
    }
    asks = [
        Ask(task="about", rewrite=_renamed(change), about=f"header names {way}", try_number=2)
        for way, change in ways.items()
    ]
    await together(*(_told(player, ask) for ask in asks))
    return None


@CHECKS.of("EXEC-5")
async def blank_counts_as_absent(player: Player) -> str | None:
    """Send a blank value alone, and a blank one before the one that counts."""

    def twice(pairs: Pairs) -> Pairs:
        return [one for name, value in pairs for one in ((name, "  "), (name, value))]

    await together(
        _told(player, Ask(task="about", rewrite=twice, about="each header first with a blank value")),
        _echoed(
            player, Ask(task="echo", payload=b"v1", rewrite=_protocol("AJ-Protocol", ""), about="AJ-Protocol blank")
        ),
    )
    return None


def _protocol(name: str, version: str | None) -> Callable[[Pairs], Pairs]:
    def rewrite(pairs: Pairs) -> Pairs:
        kept = [pair for pair in pairs if pair[0] != "AJ-Protocol"]
        return kept if version is None else [*kept, (name, version)]

    return rewrite


async def _refused(player: Player, ask: Ask) -> None:
    exchange = await player.answered(ask, busy=True)
    reply = exchange.reply
    assert reply is not None
    if reply.kind != "busy" or "2" not in reply.read.text:
        raise exchange.broken("AJ-Busy with a text that names the version 2")


@CHECKS.of("EXEC-7")
async def other_protocols_are_not_run(player: Player) -> str | None:
    """Send version 2, which is refused, and none, which is 1."""
    await _refused(
        player, Ask(task="echo", payload=b"later", rewrite=_protocol("AJ-Protocol", "2"), about="AJ-Protocol 2")
    )
    ask = Ask(task="echo", payload=b"v1", rewrite=_protocol("AJ-Protocol", None), about="without AJ-Protocol")
    await _echoed(player, ask)
    return None


@CHECKS.of("EXEC-8")
async def headers_are_read(player: Player) -> str | None:
    """Send numbers that are not always the same, 0 (no limit) among them."""
    await together(
        *(
            _told(player, Ask(task="about", try_number=number, max_tries=limit, about=f"AJ-Try {number} of {limit}"))
            for number, limit in ((1, 5), (3, 12), (7, 0))
        )
    )
    return None
