"""A short run of `make chaos`, and one in which nothing is killed, where the rules are stricter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chaos.driver import Chaos, Result
from chaos.history import story


def told(result: Result) -> str:
    """What broke, with the first story: enough to look for the cause."""
    lines = [f"{one.rule} {one.task}: {one.text}" for one in result.violations[:20]]
    tasks = [one.task for one in result.violations if one.task]
    if tasks:
        lines.append(story(result.history, tasks[0]))
    return f"seed {result.seed}\n" + "\n".join(lines)


@pytest.mark.slow
async def test_no_promise_is_broken_while_everything_is_killed(tmp_path: Path) -> None:
    result = await Chaos(10, 14, 30, tmp_path).run()
    assert result.good, told(result)
    assert {"bridge", "responder", "server"} == {fault.target for fault in result.history.faults}
    assert len(result.history.acknowledged) > 100
    assert len({plan.does for plan in result.history.plans}) > 6


@pytest.mark.slow
async def test_no_promise_is_broken_while_members_of_a_cluster_are_killed_or_stand_still(tmp_path: Path) -> None:
    result = await Chaos(7, 16, 20, tmp_path, servers=3).run()
    assert result.good, told(result)
    assert {fault.kind for fault in result.history.faults if fault.target == "server"} == {"kill", "stop"}
    assert len(result.history.acknowledged) > 100


@pytest.mark.slow
async def test_where_nothing_is_killed_every_try_and_every_event_is_exact(tmp_path: Path) -> None:
    result = await Chaos(8, 6, 20, tmp_path, faults=False).run()
    assert result.good, told(result)
    states = Counter(event.state for event in result.history.events)
    assert states["complete"] > 20
    assert {"terminated", "expired", "retry"} <= states.keys()
