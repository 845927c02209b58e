"""Draws docs/lifecycle.md from the table of legal steps.

Use: `python -m ajc_bridge.decision.diagram > docs/lifecycle.md`.
"""

from __future__ import annotations

import sys
from typing import Final

from ajc_bridge.decision.lifecycle import ACTIVE, CREATED, FINAL, KNOWN, LEGAL, NEW, UNKNOWN, Step

_MEANINGS: Final = {
    Step.CREATE: "A producer stores the task, then its queue item. `blocked`: it waits for other tasks.",
    Step.RUN: "The active save, before the request goes out: the try is counted. From `active`: the earlier attempt "
    "was abandoned, and the server has ended its lease.",
    Step.COMPLETE: "A result came.",
    Step.RETRY: "The attempt failed, timed out or got a reply that is none; tries are left: again at `next_try_at`.",
    Step.PUT_BACK: "The attempt did not count (nobody there, busy, interrupted): the state before it, one try fewer; "
    "an abandoned attempt's task goes back as `retry`.",
    Step.EXPIRE: "The deadline passed or the tries are used up.",
    Step.TERMINATE: "The handler said stop, the result or the task does not fit, or the type is not legal.",
    Step.CANCEL: "Somebody cancelled it, on the store: `cancelled` holds the instant.",
    Step.REFUSE: "The queue took no item for it, or let the item go to make room.",
    Step.RETRY_BY_ID: "Somebody asks for it again: the only way out of a final state; from `retry`: now, not later.",
}
_ORDER: Final = (
    UNKNOWN,
    NEW,
    "blocked",
    ACTIVE,
    "retry",
    "complete",
    "expired",
    "terminated",
    "queue_error",
    "unreachable",
)


def shown(state: str) -> str:
    """Give a state's name in the diagram: the empty one is written out."""
    return state or "unknown"


def edges() -> dict[tuple[str, str], list[Step]]:
    """(before, after) -> the steps that lead there, in the order of the states' lives."""
    found: dict[tuple[str, str], list[Step]] = {}
    for step, rows in LEGAL.items():
        for before, afters in rows.items():
            for after in afters:
                found.setdefault((before, after), []).append(step)
    place = {state: index for index, state in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda edge: (place[edge[0][0]], place[edge[0][1]])))


def mermaid() -> str:
    """Draw the state diagram, in mermaid's language."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {shown(state)}: {Step.CREATE}" for state in _ORDER if state in CREATED]
    lines += [f"    {shown(a)} --> {shown(b)}: {', '.join(steps)}" for (a, b), steps in edges().items()]
    lines += [f"    {shown(state)} --> [*]" for state in _ORDER if state in FINAL]
    return "\n".join(lines)


def document() -> str:
    """Write the whole of docs/lifecycle.md."""
    steps = "\n".join(f"| {step} | {meaning} |" for step, meaning in _MEANINGS.items())
    finals = ", ".join(f"`{state}`" for state in _ORDER if state in FINAL)
    return f"""# The life of a task

Generated from the table of legal steps (`python -m ajc_bridge.decision.diagram > docs/lifecycle.md`); a test compares.
`unknown` is the empty state of old records. A state that is none of these {len(KNOWN)} is left alone:
a newer writer may exist.

```mermaid
{mermaid()}
```

| Step | When |
| --- | --- |
{steps}

Final: {finals}. A final state is left by an explicit retry alone.
"""


if __name__ == "__main__":
    sys.stdout.write(document())
