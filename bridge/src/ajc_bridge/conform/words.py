"""What was sent and seen, in words for a report: short, printable, on one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ajc.errors import MalformedHeaders
from ajc.headers import parse_headers
from ajc_bridge.conform.ask import TIMEOUT_MS

if TYPE_CHECKING:
    from ajc_bridge.conform.ask import Sent
    from ajc_bridge.conform.player import Exchange, Reply

_LONGEST: Final = 60
_LONGEST_BINARY: Final = 16


def shown(data: bytes | str | None, longest: int = _LONGEST) -> str:
    """Write a text in quotes, other bytes as Python does; long ones are cut, and their length is told."""
    if data is None:
        return "none"
    if not data:
        return "empty"
    text = _text(data)
    cut = data[: longest if text is not None else min(longest, _LONGEST_BINARY)]
    words = ascii(cut if text is None else text[:longest])
    if len(cut) == len(data):
        return words
    return f"{words}... ({len(data):,} {'bytes' if isinstance(data, bytes) else 'characters'})"


def _text(data: bytes | str) -> str | None:
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def sent_words(sent: Sent) -> str:
    """Tell what was asked: the type, the payload, and what is special in it."""
    ask = sent.ask
    parts = [ask.subject or sent.type, f"payload {shown(ask.payload)}"]
    if ask.timeout_ms != TIMEOUT_MS:
        parts.append(f"AJ-Timeout-Ms {ask.timeout_ms}")
    if ask.beat_ms:
        parts.append(f"AJ-Heartbeat-Ms {ask.beat_ms}")
    if ask.deadline_ms:
        parts.append(f"task deadline in {ask.deadline_ms} ms")
    if ask.about:
        parts.append(ask.about)
    return ", ".join(parts)


def reply_words(exchange: Exchange, reply: Reply | None) -> str:
    """Tell what a reply says, and how long after the request it came."""
    if reply is None:
        return "no reply"
    after = f"after {(reply.at - exchange.at) * 1000:.0f} ms"
    if reply.kind == "no_responder":
        return f"nobody serves {exchange.sent.type} (503)"
    if reply.kind == "success":
        return f"a result, {shown(reply.body)}, {after}"
    return f"{headers_shown(reply.headers)}, {after}"


def headers_shown(block: bytes | None) -> str:
    """Write the headers of a reply, as they are."""
    if block is None:
        return "no headers"
    try:
        found = parse_headers(block)
    except MalformedHeaders as error:
        return f"a header block that is none ({error.reason})"
    if not found.items:
        return f"status {found.status}" if found.status else "no headers"
    return "; ".join(f"{shown(name)[1:-1]}: {shown(value)}" for name, value in found.items)
