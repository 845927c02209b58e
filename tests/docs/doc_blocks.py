"""The fenced blocks of a document, with what their info strings say: ```python file=tasks.py, ```sh background."""

from __future__ import annotations

from pathlib import Path

import msgspec

RUN = frozenset({"sh", "python", "toml", "json", "conf", "ini"})
SHOWN = frozenset({"text", "mermaid"})


class Block(msgspec.Struct, frozen=True):
    """One block: its language, the words behind it, the file it is to be saved as ("" for none)."""

    language: str
    words: frozenset[str]
    file: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a document in their order; a fence that never ends is an error."""
    found = []
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif opened is None:
            opened, lines = (number, line.removeprefix("```").strip()), []
        else:
            found.append(_block(*opened, lines))
            opened = None
    if opened is not None:
        raise ValueError(f"{path.name}:{opened[0]}: the block never ends")
    return found


def _block(line: int, info: str, lines: list[str]) -> Block:
    language, *words = info.split() or [""]
    files = [word.removeprefix("file=") for word in words if word.startswith("file=")]
    plain = frozenset(word for word in words if not word.startswith("file="))
    return Block(language, plain, files[0] if files else "", "\n".join(lines) + "\n", line)
