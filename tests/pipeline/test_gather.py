"""How long a queue with items gathers slots before its next pull."""

from __future__ import annotations

from ajc_bridge.pipeline.fair_share import Grant
from ajc_bridge.pipeline.lane import _ENOUGH, _LONGEST_GATHER, _SHORTEST_GATHER, _next_gather


def test_a_queue_that_gets_its_share_or_a_handful_asks_at_once() -> None:
    assert _next_gather(0.0, Grant(_ENOUGH, 0.0, due=200)) == 0.0
    assert _next_gather(0.0, Grant(5, 0.0, due=10)) == 0.0
    assert _next_gather(0.0, Grant(1, 0.0, due=1)) == 0.0
    assert _next_gather(0.0, Grant(1, 0.0, due=3)) == 0.0


def test_a_queue_that_gets_few_asks_less_often_up_to_a_bound() -> None:
    gather = 0.0
    seen = []
    for _ in range(8):
        gather = _next_gather(gather, Grant(2, 0.0, due=10))
        seen.append(gather)
    assert seen[0] == _SHORTEST_GATHER
    assert seen == sorted(seen)
    assert seen[-1] == _LONGEST_GATHER


def test_enough_again_shortens_it_to_nothing() -> None:
    gather = _LONGEST_GATHER
    for _ in range(6):
        gather = _next_gather(gather, Grant(8, 0.0, due=10))
    assert gather == 0.0
