"""EXEC-11 to EXEC-16 and EXEC-18: how a responder says that it did not work out."""

from __future__ import annotations

import re
from typing import Final

from ajc.exchange import LONGEST_TEXT
from ajc.headers import parse_headers
from ajc_bridge.conform.ask import Ask
from ajc_bridge.conform.checks.check import Checks, together
from ajc_bridge.conform.player import Exchange, Player, Reply
from ajc_bridge.conform.verdict import NotApplicable
from ajc_bridge.conform.words import headers_shown, shown

CHECKS: Final = Checks()
CRASHES: Final = 12
"""More than a responder commonly runs at once: one that loses a place with each would have none left."""


async def _said(player: Player, ask: Ask, kind: str, header: str) -> tuple[Exchange, Reply, str]:
    """Ask for a failure, and return its text as it is in the header."""
    exchange = await player.answered(ask, busy=kind == "busy")
    reply = exchange.reply
    assert reply is not None
    expected = f"{header} with a text"
    if reply.kind != kind:
        blank = f"{headers_shown(reply.headers)}: a blank text counts as none, so this is a success"
        raise exchange.broken(expected, blank if _blank(reply, header) else "")
    return exchange, reply, _value(reply, header)


def _blank(reply: Reply, header: str) -> bool:
    return reply.kind == "success" and reply.headers is not None and header.lower().encode() in reply.headers.lower()


def _value(reply: Reply, header: str) -> str:
    found = parse_headers(reply.headers or b"NATS/1.0\r\n\r\n")
    return found.get(header) or (found.get("Nats-Service-Error") if header == "AJ-Error" else None) or ""


async def _with_text(player: Player, task: str, text: str, kind: str, header: str) -> None:
    exchange, _, said = await _said(player, Ask(task=task, payload=text.encode()), kind, header)
    if text not in said:
        raise exchange.broken(f"{header} with the text {text!r}")


@CHECKS.of("EXEC-11")
async def failures_have_a_text(player: Player) -> str | None:
    """Want the handler's text, and some text when it has none."""
    await _with_text(player, "fail", "no such address", "error", "AJ-Error")
    await _said(player, Ask(task="fail", payload=b"", about="no text of its own"), "error", "AJ-Error")
    return None


@CHECKS.of("EXEC-12")
async def accidents_are_answered(player: Player) -> str | None:
    """Cause many accidents, also without any text; after them it still answers."""
    texts = [b"", *(b"accident %d" % number for number in range(1, CRASHES))]
    await together(*(_said(player, Ask(task="crash", payload=text), "error", "AJ-Error") for text in texts))
    alive = await player.answered(Ask(task="echo", payload=b"alive", about=f"after {CRASHES} accidents"))
    assert alive.reply is not None
    if alive.reply.kind != "success":
        raise alive.broken("a result: the responder lives on")
    return None


@CHECKS.of("EXEC-13")
async def terminate_is_said(player: Player) -> str | None:
    """Want the handler's text under AJ-Terminate."""
    await _with_text(player, "terminate", "no such account", "terminate", "AJ-Terminate")
    return None


@CHECKS.of("EXEC-14")
async def busy_is_said(player: Player) -> str | None:
    """Want the handler's text under AJ-Busy."""
    await _with_text(player, "busy", "the quota is used up", "busy", "AJ-Busy")
    return None


@CHECKS.of("EXEC-15")
async def retry_after_is_an_integer(player: Player) -> str | None:
    """Ask for none, a second and a half, and 30 days, which is more than 31 bits of milliseconds hold."""
    for wanted in ("0", "1500", "2592000000"):
        exchange, reply, _ = await _said(player, Ask(task="later", payload=wanted.encode()), "error", "AJ-Error")
        seen = _value(reply, "AJ-Retry-After-Ms")
        if not re.fullmatch(r"[0-9]{1,18}", seen) or int(seen) != int(wanted):
            raise exchange.broken(f"AJ-Error with AJ-Retry-After-Ms: {wanted}", headers_shown(reply.headers))
    return None


@CHECKS.of("EXEC-16")
async def texts_are_on_one_line(player: Player) -> str | None:
    """Send line breaks, with what would be a header of its own after them."""
    text = "first line\nsecond line\r\nAJ-Terminate: third line"
    for task, kind, header in (("fail", "error", "AJ-Error"), ("busy", "busy", "AJ-Busy")):
        ask = Ask(task=task, payload=text.encode(), about="a text of three lines")
        expected = f"{header} with all three lines on one, and no other outcome"
        exchange = await player.answered(ask, busy=kind == "busy")
        assert exchange.reply is not None
        said = _value(exchange.reply, header) if exchange.reply.kind == kind else ""
        if not all(part in said for part in ("first line", "second line", "third line")):
            raise exchange.broken(expected, headers_shown(exchange.reply.headers))
    return None


@CHECKS.of("EXEC-16")
async def texts_are_utf8(player: Player) -> str | None:
    """Send letters beyond ASCII, and so many of them that somebody must cut."""
    text = "Gr\u00fc\u00dfe, \u4e16\u754c \u2713"
    exchange, reply, said = await _said(player, Ask(task="fail", payload=text.encode()), "error", "AJ-Error")
    if text.encode() not in (reply.headers or b""):
        raise exchange.broken(f"the text in UTF-8, {shown(text.encode())}", shown(said))
    for start in ("", "."):  # wherever it is cut, one of the two is cut at a character's beginning only by intent
        long = (start + "\u00fc" * LONGEST_TEXT).encode()
        ask = Ask(task="fail", payload=long, about="a text of many two-byte characters")
        exchange, reply, said = await _said(player, ask, "error", "AJ-Error")
        try:
            (reply.headers or b"").decode()
        except UnicodeDecodeError:
            raise exchange.broken("a text in UTF-8, cut between characters", "one that is not UTF-8") from None
    length = len(said.encode())
    return f"a text of {length:,} bytes: it should be cut to {LONGEST_TEXT:,}" if length > LONGEST_TEXT else None


@CHECKS.of("EXEC-18")
async def large_results(_player: Player) -> str | None:
    """Say that no scripted task can have one: base64 makes the payload a third larger than the result."""
    raise NotApplicable("no scripted task has such a result: what fits in a request fits in its reply")
