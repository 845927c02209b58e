"""Outcomes are values with a stable word each."""

from __future__ import annotations

from typing import get_args

import pytest

from ajc_bridge.decision import outcome

WORDS = {
    outcome.Succeeded(b""): "succeeded",
    outcome.Failed("x"): "failed",
    outcome.Terminated("x"): "terminated",
    outcome.TimedOut(1): "timed_out",
    outcome.NoHeartbeat(1): "no_heartbeat",
    outcome.NoResponder("s"): "no_responder",
    outcome.Busy(): "busy",
    outcome.Malformed("x"): "malformed",
    outcome.Interrupted(): "interrupted",
    outcome.Abandoned(): "abandoned",
    outcome.ResultTooLarge(2, 1): "result_too_large",
    outcome.TaskTooLarge(2, 1): "task_too_large",
}


@pytest.mark.parametrize(("value", "word"), WORDS.items(), ids=WORDS.values())
def test_each_outcome_has_a_word_for_logs_and_metrics(value: outcome.Outcome, word: str) -> None:
    assert value.word == word


def test_the_union_names_every_outcome() -> None:
    assert {type(value) for value in WORDS} == set(get_args(outcome.Outcome))


def test_what_an_outcome_leaves_out() -> None:
    assert outcome.Failed("x").retry_after_ms is None
    assert outcome.Busy() == outcome.Busy("", None)
    assert outcome.TimedOut(1).at_deadline is False
