"""The bounds that the project promises, and how the figures of a run stand beside them."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One promise. `value` is None when it was not measured in this run."""

    what: str
    bound: float
    least: bool  # the bound is a least value, else a largest
    value: float | None
    unit: str
    note: str

    @classmethod
    def at_least(cls, what: str, bound: float, value: float | None, unit: str = "", note: str = "") -> Row:
        return cls(what, bound, least=True, value=value, unit=unit, note=note)

    @classmethod
    def at_most(cls, what: str, bound: float, value: float | None, unit: str = "", note: str = "") -> Row:
        return cls(what, bound, least=False, value=value, unit=unit, note=note)

    @property
    def kept(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.least else self.value <= self.bound

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "ok", False: "MISSED"}[self.kept]

    def as_json(self) -> dict[str, object]:
        return {**self._asdict(), "kept": self.kept}


def table(rows: list[Row]) -> str:
    cells = [("what", "bound", "measured", "verdict", "")]
    for row in rows:
        sign = ">=" if row.least else "<="
        unit = f" {row.unit}" if row.unit else ""
        measured = "-" if row.value is None else f"{row.value:.2f}{unit}"
        cells.append((row.what, f"{sign} {row.bound:g}{unit}", measured, row.verdict, row.note))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[4]]) for line in cells
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(line.rstrip() for line in lines)
