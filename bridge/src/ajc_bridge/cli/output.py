"""What commands print: tables for people, JSON for programs. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ajc_bridge.cli.exits import USAGE, CliError

MISSING = "-"
_STDIN: Final = 0
_STDOUT: Final = 1
_GAP: Final = 2
_LEAST_CUT: Final = 16
"""Cells of a text that is cut: fewer say nothing."""


def print_json(value: Any) -> None:
    """Print one JSON document and a line break; `bytes` are JSON already."""
    import msgspec  # noqa: PLC0415 - only when something is printed

    document = value if isinstance(value, bytes) else msgspec.json.encode(value, enc_hook=str)
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()


def print_json_list(values: Iterable[bytes]) -> None:
    """Print one JSON array whose elements are encoded already."""
    print_json(b"[" + b",".join(values) + b"]")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    empty: str,
    cut: str = "",
    dispensable: Sequence[str] = (),
) -> None:
    """Print rows under their columns; `empty` (on stderr) when there are none.

    No cell is broken: what is copied from a table must be whole. On a terminal that is too narrow the text of the
    column `cut` is cut, and the `dispensable` columns are left out, the first of them first.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - only when a table is printed
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = [[plain(cell) for cell in row] for row in rows]
    if not shown:
        say(empty)
        return
    widths = {name: max(map(cell_len, (name, *(row[at] for row in shown)))) for at, name in enumerate(columns)}
    if sys.stdout.isatty():
        widths = _fitting(widths, Console().width, cut, dispensable)
    table = Table(box=None, pad_edge=False, header_style="bold")
    kept = [at for at, name in enumerate(columns) if name in widths]
    for at in kept:
        numbers = all(row[at].lstrip("-").isdecimal() for row in shown)
        table.add_column(
            columns[at],
            justify="right" if numbers else "left",
            overflow="ellipsis",
            no_wrap=True,
            width=widths[columns[at]],
        )
    for row in shown:
        table.add_row(*(Text(row[at]) for at in kept))
    # as wide as it is: on a terminal that is narrower still, the terminal goes on below
    Console(width=sum(widths.values()) + _GAP * len(widths), soft_wrap=True).print(table)


def _fitting(widths: dict[str, int], room: int, cut: str, dispensable: Sequence[str]) -> dict[str, int]:
    """Return the columns that fit into `room` cells, and how wide each is; those that must be there may need more."""
    widths = dict(widths)
    least = min(widths[cut], _LEAST_CUT) if cut else 0
    for name in (*dispensable, ""):
        beside = sum(width + _GAP for column, width in widths.items() if column != cut)
        if cut in widths and beside + least <= room:
            widths[cut] = min(widths[cut], room - beside)
            return widths
        if cut not in widths and beside - _GAP <= room:
            return widths
        widths.pop(name, None)
    return widths


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


class UnwritableError(CliError):
    """Stdout takes no output: its disk is full, or it was closed before the command began."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout cannot be written: {error.strerror or error}")


class _Stdout(io.FileIO):
    """Stdout, whose faults are told from those of every other file."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnwritableError(error) from None


def guard_streams() -> None:
    """Let a fault of stdout raise `UnwritableError`, also where it was closed before (`>&-`); a closed stderr has none.

    Closed, its number would go to the first file or connection that is opened: so it is taken, by what cannot be
    written.
    """
    if sys.stdin is None:
        _take(_STDIN)  # the event loop's own descriptors must not have this number
    before = sys.stdout
    if before is None:
        _take(_STDOUT)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Stdout(_STDOUT, "w", closefd=False)),
        encoding=before.encoding if before else "utf-8",
        errors=before.errors if before else "replace",
        line_buffering=before.isatty() if before else False,
    )
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives


def _take(number: int) -> None:
    """Let this descriptor be of a file that holds nothing and takes nothing."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)


def stop_writing() -> None:
    """Stdout takes nothing any more: what is left goes nowhere, so that the interpreter's own end says nothing."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
