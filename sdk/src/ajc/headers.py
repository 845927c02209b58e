"""NATS header blocks: `NATS/1.0[ <status>[ <description>]]` CR LF, `Name: value` CR LF each, CR LF.

Blocks stay bytes until somebody asks, since most messages are never asked. Names are compared without case; a value
that is empty or blank counts as absent.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from ajc.errors import InvalidName, MalformedHeaders

_NAME_ALLOWED = "visible ASCII characters without a colon"
_name = re.compile(r"[!-9;-~]+").fullmatch
_controls = re.compile(r"[\x00-\x1f\x7f]+")
_status_line = re.compile(r"NATS/1\.0(?:[ \t]+([0-9]{3})(?:[ \t]+(.*))?)?[ \t]*", re.DOTALL).fullmatch
_BLANKS = " \t\r\v\f"  # not what `str.strip` takes for blank beyond ASCII


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
        """Find the first value of that name (in any case) that is not blank; it has no surrounding blanks."""
        wanted = name.lower()
        for found, value in self.items:
            if value and found.lower() == wanted:
                return value
        return None


def encode_headers(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """Write a block without status; line breaks and controls in values become blanks, a bad name is InvalidName."""
    lines = ["NATS/1.0\r\n"]
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if _name(name) is None:
            raise InvalidName("header", name, _NAME_ALLOWED)
        lines.append(f"{name}: {value if value.isprintable() else header_value(value)}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("utf-8", "replace")


def header_value(text: str) -> str:
    """Put a text on one line, as it can stand in a header."""
    return _controls.sub(" ", text).strip()


def parse_headers(block: bytes) -> Headers:
    """Read a block; MalformedHeaders for what is none. Bytes that are not UTF-8 become U+FFFD."""
    first, *lines = block.decode("utf-8", "ajc-go").replace("\r\n", "\n").split("\n")
    match = None if first == "NATS/1.0" else _status_line(first)
    if match is None and first != "NATS/1.0":
        raise MalformedHeaders("", f"starts with {first[:40]!r} where NATS/1.0 belongs")
    items: list[tuple[str, str]] = []
    for line in lines:
        if not line:
            break
        name, colon, value = line.partition(":")
        name = name.strip(_BLANKS)
        if not colon or not name:
            raise MalformedHeaders("", f"line {line[:40]!r} is no name: value")
        items.append((name, value.strip(_BLANKS)))
    if match is None or match[1] is None:
        return Headers(items=tuple(items))
    return Headers(int(match[1]), (match[2] or "").strip(_BLANKS), tuple(items))


def encode_parsed(headers: Mapping[str, str]) -> bytes:
    """Write headers that nats-py has parsed as a block again; a status that it split off goes back into its line."""
    rest = dict(headers)
    status = rest.pop("Status", None)
    description = rest.pop("Description", "") if status is not None else ""
    block = encode_headers(rest)
    if status is None:
        return block
    return f"NATS/1.0 {status} {description}".rstrip().encode() + block[len(b"NATS/1.0") :]
