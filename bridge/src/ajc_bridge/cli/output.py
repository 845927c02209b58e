"""What commands print: tables for people, JSON for programs. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ajc_bridge.cli.exits import USAGE, CliError

MISSING = "-"


def print_json(value: Any) -> None:
    """Print one JSON document and a line break; `bytes` are JSON already."""
    import msgspec  # noqa: PLC0415 - only when something is printed

    document = value if isinstance(value, bytes) else msgspec.json.encode(value, enc_hook=str)
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()


def print_json_list(values: Iterable[bytes]) -> None:
    """Print one JSON array whose elements are encoded already."""
    print_json(b"[" + b",".join(values) + b"]")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under their columns; `empty` (on stderr) when there are none."""
    from rich.console import Console  # noqa: PLC0415 - only when a table is printed
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = [[plain(cell) for cell in row] for row in rows]
    if not shown:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = all(row[index].lstrip("-").isdecimal() for row in shown)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold", no_wrap=index == 0)
    for row in shown:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 10_000, soft_wrap=not sys.stdout.isatty()).print(table)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print one thing's fields, a line each; those without a value are left out."""
    shown = [(name, plain(value)) for name, value in fields if value not in (None, "", [], ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *more = value.splitlines() or [""]
        sys.stdout.write(f"{name:<{width}}  {first}\n")
        for line in more:
            sys.stdout.write(f"{'':<{width}}  {line}\n")
    sys.stdout.flush()


def plain(value: Any) -> str:
    """Return a cell's text: nothing that a terminal would act upon."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in str(value))


def say(text: str) -> None:
    """Tell people something that is no result: on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed. Without a terminal and without --yes that is refused."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CliError(f"{question} Refused: there is no terminal to ask on", "add --yes to do it", USAGE)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CliError("nothing was done")


def stop_writing() -> None:
    """Whoever read stdout is gone (`| head`): end without a trace, as other tools do."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
