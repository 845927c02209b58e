"""What the kit found, for people and for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from ajc_bridge.conform.kit import Report
from ajc_bridge.conform.rules import MEANING, Level
from ajc_bridge.conform.verdict import Verdict

_WORDS: Final = {"passed": "passed", "failed": "FAILED", "not applicable": "n/a", "not tried": "untried"}
_INDENT: Final = " " * 21


def as_text(report: Report) -> str:
    """Return a line for each rule, more where there is more to say, and a summary."""
    found = "".join(_lines(verdict) for verdict in report.verdicts)
    if report.gave_up:
        found += f"Given up: {report.gave_up}.\n"
    if report.unkept:
        found += f"{report.unkept:,} messages of the responder were counted only: it sent too many to keep.\n"
    return found + _summary(report) + "\n"


def as_document(report: Report) -> dict[str, Any]:
    """Return the same as one JSON document."""
    return {
        "ok": report.ok,
        "family": report.family,
        "prefix": report.prefix,
        "level": report.level,
        "highest_level": report.highest,
        "complete": report.complete,
        **({"gave_up": report.gave_up} if report.gave_up else {}),
        **({"messages_not_kept": report.unkept} if report.unkept else {}),
        "rules": [
            {key: value for key, value in msgspec.to_builtins(verdict).items() if value != ""}
            for verdict in report.verdicts
        ],
    }


def _lines(verdict: Verdict) -> str:
    text = f"{verdict.rule:<8} {verdict.level}  {_WORDS[verdict.outcome]:<7}  {verdict.title}\n"
    if verdict.outcome == "failed":
        for name in ("sent", "expected", "seen"):
            text += f"{_INDENT}{name:<9} {getattr(verdict, name)}\n"
    for more in (verdict.reason, verdict.note):
        text += f"{_INDENT}{more}\n" if more else ""
    return text


def _summary(report: Report) -> str:
    count = Counter(verdict.outcome for verdict in report.verdicts)
    rules = len(report.verdicts)
    told = f"{rules} rule{'s' if rules != 1 else ''}: {count['passed']} passed, {count['failed']} failed, "
    told += f"{count['not applicable']} not applicable"
    if count["not tried"]:
        told += f", {count['not tried']} not tried"
    if not report.complete:
        return f"{told}. Not all rules were tried: this says nothing of a level."
    if report.highest is None:
        return f"{told}. No level passed."
    return f"{told}. Highest level passed: {report.highest} ({MEANING[Level(report.highest)]})."
