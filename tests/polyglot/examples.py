"""The examples in many languages, as their polyglot.toml tell of them; what a machine lacks for one, and its own lines.

language = "Rust"
level = "L2"                              the highest level of the conformance kit that it passes
needs = ["cargo"]                         programs that must be on PATH, to build and to run
build = "make"                             a shell command in the example's folder; "" for nothing to build
start = "exec ./target/release/responder" the same; NATS_URL and AJC_FAMILY are in its environment
check = "pkg-config --exists libnats"     optional: fails where a library is not there
install = "apt-get install libnats-dev"   optional: brings what `needs` and `check` ask for, where root may
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
POLYGLOT: Final = ROOT / "examples" / "polyglot"
_SOURCES: Final = frozenset({".c", ".go", ".h", ".java", ".js", ".mjs", ".py", ".rs", ".sh", ".ts"})
_BLOCK: Final = re.compile(r"/\*.*?\*/|^\s*\"\"\".*?\"\"\"", re.DOTALL | re.MULTILINE)
_COMMENT: Final = re.compile(r"^\s*(//|#(?!include|define))")
_PRODUCER: Final = "producer"
"""A file, or a folder, with a program of its own."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a polyglot.toml."""

    language: str
    level: Literal["L0", "L1", "L2", "L3"]
    needs: list[str]
    build: str
    start: str
    check: str = ""
    install: str = ""


class Example(NamedTuple):
    """One folder of examples/polyglot; its name is the family of its types, too."""

    folder: Path
    settings: Settings

    @property
    def name(self) -> str:
        return self.folder.name


def read(folder: Path) -> Example:
    """Read one. Raises `msgspec.ValidationError`, `tomllib.TOMLDecodeError`, `OSError`."""
    document = tomllib.loads((folder / "polyglot.toml").read_text(encoding="utf-8"))
    return Example(folder, msgspec.convert(document, Settings))


def find(polyglot: Path = POLYGLOT) -> list[Example]:
    """Read all of them, by name."""
    return [read(path.parent) for path in sorted(polyglot.glob("*/polyglot.toml"))]


def lacking(example: Example, path: str | None = None) -> str:
    """Return what this machine lacks for it, "" for nothing."""
    missing = [program for program in example.settings.needs if shutil.which(program, path=path) is None]
    if missing:
        return "there is no " + ", no ".join(missing)
    if _fails(example.settings.check):
        return f"`{example.settings.check}` fails"
    return ""


def _fails(command: str) -> bool:
    return bool(command) and subprocess.run(command, shell=True, capture_output=True, check=False).returncode != 0


def own_sources(example: Example) -> list[Path]:
    """Return a responder's source files that git knows, or would: no outputs, no dependencies, nothing beside it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."]
    listed = subprocess.run(command, cwd=example.folder, capture_output=True, text=True, check=True).stdout.split()
    sources = [Path(name) for name in listed if Path(name).suffix in _SOURCES]
    return [example.folder / path for path in sources if _PRODUCER not in (path.stem, path.parent.name)]


def own_lines(source: str) -> int:
    """Count the lines that are neither blank nor a comment alone."""
    return sum(1 for line in _BLOCK.sub("", source).splitlines() if line.strip() and not _COMMENT.match(line))
