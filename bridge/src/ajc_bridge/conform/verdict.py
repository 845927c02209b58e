"""What became of a rule, and the two exceptions by which a check says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ajc_bridge.conform.rules import Level, Rule

Outcome = Literal["passed", "failed", "not applicable", "not tried"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One rule's line. `reason`: why it does not apply; `note`: what a rule that passed leaves to be wished."""

    rule: str
    level: str
    title: str
    outcome: Outcome
    reason: str = ""
    note: str = ""
    sent: str = ""
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0


class Broken(Exception):  # noqa: N818  (what it says is about a rule, not about this program)
    """The responder does not keep the rule: what was sent, what was expected, and what was seen."""

    def __init__(self, sent: str, expected: str, seen: str) -> None:
        super().__init__(f"sent {sent}; expected {expected}; seen {seen}")
        self.sent = sent
        self.expected = expected
        self.seen = seen


class NotApplicable(Exception):  # noqa: N818  (likewise)
    """The rule cannot be tried here, and why."""


class NotTried(Exception):  # noqa: N818  (likewise)
    """The kit has given up, and why."""


Result = str | Broken | NotApplicable | NotTried | None
"""What came of one check: None or a note for a rule that was kept."""


def verdict_of(rule: Rule, results: Iterable[Result], seconds: float) -> Verdict:
    """Put the results of a rule's checks together: the worst decides."""
    found = list(results)
    base = Verdict(rule=rule.name, level=str(rule.level), title=rule.title, outcome="passed", seconds=round(seconds, 3))
    broken = next((one for one in found if isinstance(one, Broken)), None)
    if broken is not None:
        return msgspec.structs.replace(
            base, outcome="failed", sent=broken.sent, expected=broken.expected, seen=broken.seen
        )
    if any(isinstance(one, NotTried) for one in found):
        return msgspec.structs.replace(base, outcome="not tried")
    reasons = [str(one) for one in found if isinstance(one, NotApplicable)]
    notes = "; ".join(one for one in found if isinstance(one, str))
    if len(reasons) == len(found):
        return msgspec.structs.replace(base, outcome="not applicable", reason="; ".join(reasons))
    return msgspec.structs.replace(base, note="; ".join(filter(None, [notes, *reasons])))


def highest_level(verdicts: Iterable[Verdict], level: Level) -> Level | None:
    """Return the highest level, up to the asked one, that passed with all levels below it; None: not even L0."""
    failed = {verdict.level for verdict in verdicts if verdict.outcome in ("failed", "not tried")}
    kept = None
    for each in level.includes:
        if each in failed:
            break
        kept = each
    return kept
