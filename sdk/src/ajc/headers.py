"""NATS header blocks: `NATS/1.0[ <status>[ <description>]]` CR LF, `Name: value` CR LF each, CR LF.

Blocks stay bytes until somebody asks, since most messages are never asked. Names are compared without case; a value that is
empty or blank counts as absent.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from ajc.errors import InvalidName, MalformedHeaders

VERSION = b"NATS/1.0"

_NAME_ALLOWED = "visible ASCII characters without a colon"
_name = re.compile(r"[!-9;-~]+").fullmatch
_controls = re.compile(r"[\x00-\x1f\x7f]+")
_status_line = re.compile(rb"NATS/1\.0(?:[ \t]+([0-9]{3})(?:[ \t]+([^\r\n]*))?)?[ \t]*").fullmatch
_lines = re.compile(rb"\r?\n").split


def _replace_each(error: UnicodeError) -> tuple[str, int]:
    """Like Go: one U+FFFD for each byte that is not UTF-8."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("ajc-go", _replace_each)


class Headers(Struct, frozen=True):
    """A parsed block: `status` and `description` of its first line, then every name and value in order."""

    status: int | None = None
    description: str = ""
    items: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of that name (any case) that is not blank, without surrounding blanks."""
        wanted = name.lower()
        for found, value in self.items:
            if value and found.lower() == wanted:
                return value
        return None


def encode_headers(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """A block without status. Line breaks and control characters in values become blanks; InvalidName for a bad name."""
    lines = ["NATS/1.0\r\n"]
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if _name(name) is None:
            raise InvalidName("header", name, _NAME_ALLOWED)
        lines.append(f"{name}: {value if value.isprintable() else header_value(value)}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("utf-8", "replace")


def header_value(text: str) -> str:
    """A text as it can stand in a header: on one line."""
    return _controls.sub(" ", text).strip()


def parse_headers(block: bytes) -> Headers:
    """Read a block; MalformedHeaders for what is none. Bytes that are not UTF-8 become U+FFFD."""
    lines = _lines(block)
    first = _status_line(lines[0])
    if first is None:
        raise MalformedHeaders("", f"starts with {lines[0][:40]!r} where NATS/1.0 belongs")
    items: list[tuple[str, str]] = []
    for line in lines[1:]:
        if not line:
            break
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise MalformedHeaders("", f"line {line[:40]!r} is no name: value")
        items.append((name.strip().decode("utf-8", "ajc-go"), value.strip().decode("utf-8", "ajc-go")))
    status, description = first.groups()
    return Headers(
        int(status) if status else None, (description or b"").strip().decode("utf-8", "ajc-go"), tuple(items)
    )
