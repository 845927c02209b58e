"""Details go to the sinks that want them, and a sink that fails stops nothing."""

from __future__ import annotations

import time
from typing import Any

from ajc_bridge import happenings as happened
from ajc_bridge.journal.journal import Journal
from ajc_bridge.journal.log_table import LINES, UNLOGGED
from ajc_bridge.journal.logs import Logs
from ajc_bridge.journal.metrics import Metrics


class Sink:
    def __init__(self, *kinds: type, fails: bool = False) -> None:
        self.kinds = kinds
        self.fails = fails
        self.seen: list[Any] = []

    def handlers(self) -> dict[type, Any]:
        return dict.fromkeys(self.kinds, self.take)

    def take(self, detail: Any) -> None:
        self.seen.append(detail)
        if self.fails:
            raise ValueError("broken sink")


def all_kinds() -> list[type[happened.Detail]]:
    return happened.Detail.__subclasses__()


def test_each_kind_has_an_action_of_its_own() -> None:
    actions = [kind.action for kind in all_kinds()]
    assert len(set(actions)) == len(actions)
    assert all(action.replace(".", "").replace("_", "").isalpha() and "." in action for action in actions)


def test_each_kind_has_a_log_line_or_is_named_as_one_without() -> None:
    assert set(LINES) | UNLOGGED == set(all_kinds())


def test_only_those_that_want_a_kind_get_it() -> None:
    one, other = Sink(happened.Drained), Sink(happened.Drained, happened.Stopped)
    journal = Journal([one, other])
    journal.note(happened.Drained(0))
    journal.note(happened.Stopped(0))
    journal.note(happened.LeaseLost("Q", "id"))
    assert one.seen == [happened.Drained(0)]
    assert other.seen == [happened.Drained(0), happened.Stopped(0)]


def test_a_sink_that_fails_is_told_of_and_stops_nothing() -> None:
    bad, good = Sink(happened.Drained, happened.Trouble, fails=True), Sink(happened.Drained, happened.Trouble)
    Journal([bad, good]).note(happened.Drained(1))
    assert good.seen[-1] == happened.Drained(1)
    assert any("broken sink" in one.text for one in good.seen if isinstance(one, happened.Trouble))


def test_rewire_asks_the_sinks_again() -> None:
    sink = Sink()
    journal = Journal([sink])
    sink.kinds = (happened.Drained,)
    journal.note(happened.Drained(0))
    journal.rewire()
    journal.note(happened.Drained(1))
    assert sink.seen == [happened.Drained(1)]


def test_a_tasks_details_cost_little() -> None:
    class Saved:
        state = "active"

    journal = Journal([Metrics(), Logs("info", "json")])
    saved = happened.TaskSaved(Saved, "Q", 3)  # type: ignore[arg-type]
    details = [
        saved,
        happened.AttemptStarted("Q", "t", "id", 1),
        happened.AttemptEnded("Q", "t", "id", 1, "succeeded", 1_000_000, 2_000_000, ""),
        saved,
        happened.TaskSettled("Q", "t", "id", "complete", "complete", 1, ""),
    ]

    def once() -> float:
        began = time.process_time()
        for _ in range(5_000):
            for detail in details:
                journal.note(detail)
        return (time.process_time() - began) / 5_000

    assert min(once() for _ in range(5)) < 50e-6  # measured: 2 µs; a formatted line would cost 100
