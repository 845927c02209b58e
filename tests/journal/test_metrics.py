"""Metrics by the names that are promised, counted for what they say."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ajc_bridge import happenings as happened
from ajc_bridge.decision import outcome
from ajc_bridge.journal.metric_table import METRICS
from ajc_bridge.journal.metrics import ANSWERED, ERRORS, Metrics, TypeLabels


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Saved:
    def __init__(self, state: str) -> None:
        self.state = state


def noted(*details: happened.Detail, metrics: Metrics | None = None) -> dict[str, Any]:
    metrics = metrics or Metrics()
    handlers = metrics.handlers()
    for detail in details:
        handlers[type(detail)](detail)
    return samples(metrics)


def samples(metrics: Metrics) -> dict[str, float]:
    found = {}
    for line in metrics.text().decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def ended(outcome: str, kind: str = "t", handler_ns: int = 2_000_000) -> happened.AttemptEnded:
    return happened.AttemptEnded("Q", kind, "id", 1, outcome, 1_000_000, handler_ns, "")


def test_the_page_can_be_parsed_and_has_every_family_of_the_table() -> None:
    metrics = Metrics()
    noted(ended("succeeded"), happened.Reconnected("x", "v"), metrics=metrics)
    page = metrics.text().decode()
    families = {family.name for family in text_string_to_metric_families(page)}
    for name in METRICS:
        assert name in families or name.removesuffix("_total") in families
        assert page.count(f"# TYPE {name} ") == 1
    assert "process_cpu_seconds_total" in page


def test_gos_counters_keep_their_names() -> None:
    page = noted(
        happened.DeadLettered("Q", "", "id", "malformed_item"),
        happened.ItemDropped("Q", "id", "no_record"),
        happened.ItemDropped("Q", "id", "complete"),
        happened.TaskSettled("Q", "t", "id", "deadline", "expired", 1, ""),
        happened.TaskSettled("Q", "t", "id", "tries", "expired", 1, ""),
        happened.TaskSettled("Q", "t", "id", "complete", "complete", 1, ""),
        happened.Pulled("Q", 10),
        happened.PullFailed("Q", "x"),
        happened.TaskSaved(Saved("active"), "Q", 7),
        happened.TaskSaved(Saved("complete"), "Q", 0),
        happened.SaveFailed("Q", "id", "x"),
        happened.RevisionConflict("Q", "id"),
        happened.SlotsChanged(10, 3, 2),
    )
    for name, value in {
        'queue_item_corrupt_error_count{queue="Q"}': 1,
        'queue_task_not_found_error_count{queue="Q"}': 1,
        'queue_task_past_deadline_count{queue="Q"}': 1,
        'queue_task_past_max_tries_count{queue="Q"}': 1,
        'queue_poll_total{queue="Q"}': 1,
        'queue_poll_error_total{queue="Q"}': 1,
        'task_update_total{state="active"}': 1,
        "task_update_error_total": 2,
        "handler_busy_count": 3,
    }.items():
        assert page["choria_asyncjobs_" + name] == value
    assert 'choria_asyncjobs_task_update_total{state="complete"}' not in page  # discarded, not saved
    assert page["ajc_bridge_revision_conflicts_total"] == 1
    assert page['ajc_bridge_slots{state="free"}'] == 5


def test_the_handlers_time_covers_what_was_answered_or_timed_out() -> None:
    words = [kind.word for kind in vars(outcome).values() if isinstance(kind, type) and "word" in vars(kind)]
    assert set(words) >= ANSWERED >= ERRORS
    page = noted(*map(ended, words))
    assert page['choria_asyncjobs_handler_runtime_count{queue="Q",type="t"}'] == len(ANSWERED)
    assert page['choria_asyncjobs_handler_error_total{queue="Q",type="t"}'] == len(ERRORS)
    assert page["ajc_bridge_handler_seconds_count"] == len(ANSWERED)
    assert page["ajc_bridge_dispatch_seconds_count"] == len(words)
    assert "busy" not in ANSWERED
    assert "no_responder" not in ANSWERED
    for word in words:
        assert page[f'ajc_bridge_attempts_total{{outcome="{word}",queue="Q",type="t"}}'] == 1


def test_a_cancelled_attempt_is_counted_by_itself_and_has_no_outcome() -> None:
    page = noted(happened.AttemptCancelled("Q", "t", "id", 1))
    assert page['ajc_bridge_attempts_cancelled_total{queue="Q",type="t"}'] == 1
    assert page["ajc_bridge_handler_seconds_count"] == 0
    assert not [sample for sample in page if sample.startswith("ajc_bridge_attempts_total")]


def test_histograms_count_up_to_their_bounds() -> None:
    page = noted(ended("succeeded", handler_ns=5_000_000), ended("succeeded", handler_ns=5_000_001))
    assert page['ajc_bridge_handler_seconds_bucket{le="0.0025"}'] == 0
    assert page['ajc_bridge_handler_seconds_bucket{le="0.005"}'] == 1
    assert page['ajc_bridge_handler_seconds_bucket{le="0.01"}'] == 2
    assert page['ajc_bridge_handler_seconds_bucket{le="+Inf"}'] == 2
    assert page["ajc_bridge_handler_seconds_sum"] == 0.010000001


def test_parked_counts_those_that_still_wait() -> None:
    clock = Clock()
    metrics = Metrics(monotonic=clock)

    def parked(seconds: int) -> happened.TaskParked:
        return happened.TaskParked("Q", "t", "id", 1, seconds * 1_000_000_000, "")

    name = 'ajc_bridge_parked{queue="Q",type="t"}'
    assert noted(parked(1), parked(10), parked(2), metrics=metrics)[name] == 3
    clock.now += 5
    assert samples(metrics)[name] == 1
    clock.now += 6
    assert samples(metrics)[name] == 0


def test_a_type_past_the_first_200_is_other_until_it_was_served() -> None:
    labels = TypeLabels()
    assert [labels.of(f"t{number}") for number in range(200)] == [f"t{number}" for number in range(200)]
    assert labels.of("late") == "other"
    assert labels.of("t3") == "t3"
    labels.served("late")
    assert labels.of("late") == "late"
    labels.served("t3")  # a served type makes room for one that was not
    assert labels.of("next") == "next"
    assert labels.of("after") == "other"


def test_hostile_types_do_not_grow_the_page() -> None:
    page = noted(*(ended("no_responder", f"h{number}") for number in range(5_000)))
    assert sum(name.startswith("ajc_bridge_attempts_total") for name in page) == 201


def test_connected_follows_the_connection() -> None:
    metrics = Metrics()
    assert noted(metrics=metrics)["ajc_bridge_connected"] == 0
    assert noted(happened.Connected("s", "v"), metrics=metrics)["ajc_bridge_connected"] == 1
    assert noted(happened.Disconnected(""), metrics=metrics)["ajc_bridge_connected"] == 0
    page = noted(happened.Reconnected("s", "v"), metrics=metrics)
    assert (page["ajc_bridge_connected"], page["ajc_bridge_reconnects_total"]) == (1, 1)


def test_replies_that_change_nothing_are_counted_by_kind() -> None:
    page = noted(
        happened.ReplyIgnored("late", "t", "id"),
        happened.ReplyIgnored("duplicate", "t", "id"),
        happened.RetryAfterIgnored("t", "id"),
        happened.DeadLettered("Q", "t", "id", "tries"),
    )
    assert page['ajc_bridge_replies_total{kind="late"}'] == 1
    assert page['ajc_bridge_replies_total{kind="duplicate"}'] == 1
    assert page["ajc_bridge_retry_after_ignored_total"] == 1
    assert page['ajc_bridge_dead_letters_total{queue="Q",reason="tries"}'] == 1


def test_lines_that_were_left_out_are_read_when_asked() -> None:
    left_out = 0
    metrics = Metrics(lines_dropped=lambda: left_out)
    assert samples(metrics)["ajc_bridge_log_lines_dropped_total"] == 0
    left_out = 7
    assert samples(metrics)["ajc_bridge_log_lines_dropped_total"] == 7
