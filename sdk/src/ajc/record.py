"""JSON objects read without loss: keys nobody here knows are kept as the bytes they were.

Numbers in kept values are never looked at, so `1e400` and sixty digits survive. What cannot be kept as it was: bytes
that are not UTF-8 and halves of surrogate pairs become U+FFFD, as in Go, since no other reader could take them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec
from msgspec import Raw

import ajc.headers  # noqa: F401 - registers the "ajc-go" way of decoding text

READ_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_members = msgspec.json.Decoder(dict[str, Raw])
_path = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL).fullmatch
# Any escape is consumed whole, so that the `u` after an escaped backslash is not taken for one.
_escapes = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_surrogates = re.compile("[\ud800-\udfff]")


def mended(data: bytes) -> bytes:
    """Put U+FFFD for each byte of this JSON that is not UTF-8 and for each half of a surrogate pair."""
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("utf-8", "ajc-go").encode()
    if rb"\u" in data:
        data = _escapes.sub(lambda match: rb"\ufffd" if match[1] else match[0], data)
    return data


def without_surrogates(text: str) -> str:
    """Put U+FFFD for what UTF-8 cannot hold."""
    return _surrogates.sub("\ufffd", text)


def members(data: bytes) -> dict[str, Raw]:
    """Take an object apart, each value as its own bytes; of a repeated key the last counts. Raises READ_ERRORS."""
    return _members.decode(data)


def fault(error: Exception) -> tuple[str, str]:
    """Tell field and reason of one of READ_ERRORS."""
    if isinstance(error, RecursionError):
        return "", "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "", "not UTF-8"
    match = _path(str(error))
    assert match is not None  # the pattern takes any text
    return match[2] or "", match[1]


def lookalike(key: str, known: Collection[str]) -> str | None:
    """Find the known key that Go would take this one for: it ignores case, and U+017F counts as s there."""
    if key in known:
        return None
    folded = key.replace("\u017f", "s").lower()
    return folded if folded in known else None


def spliced(encoded: bytes, extra: Mapping[str, Raw]) -> bytes:
    """Add the kept members at the end of an encoded, not empty object."""
    parts = [encoded[:-1]]
    for key, value in extra.items():
        parts.append(b",%b:%b" % (msgspec.json.encode(without_surrogates(key)), bytes(value)))
    parts.append(b"}")
    return b"".join(parts)


def joined(chosen: Mapping[str, Raw]) -> bytes:
    """Put an object together of these members, whose keys need no escaping."""
    return b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), bytes(value)) for key, value in chosen.items())
