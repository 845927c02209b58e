"""`python -m ajc_bridge.journal.metric_table [FILE]`: every metric there is, and docs/metrics.md made from it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ajc_bridge.document import write_document


class MetricDefinition(msgspec.Struct, frozen=True):
    """One family. `counted`: a plain counter by label values."""

    kind: Literal["counter", "gauge", "summary", "histogram"]
    labels: tuple[str, ...]
    help: str

    @property
    def counted(self) -> bool:
        """Whether it only ever counts up, by one."""
        return self.kind == "counter"


METRICS: Final[dict[str, MetricDefinition]] = {
    "ajc_bridge_attempts_total": MetricDefinition(
        "counter", ("queue", "type", "outcome"), "Attempts that ended, by outcome"
    ),
    "ajc_bridge_attempts_cancelled_total": MetricDefinition(
        "counter", ("queue", "type"), "Attempts whose task somebody cancelled while they ran"
    ),
    "ajc_bridge_slots": MetricDefinition("gauge", ("state",), "Slots: busy with an attempt, pulling an item, free"),
    "ajc_bridge_parked": MetricDefinition(
        "gauge",
        ("queue", "type"),
        "Tasks that this bridge has parked because nobody could take them, and that wait still",
    ),
    "ajc_bridge_dead_letters_total": MetricDefinition("counter", ("queue", "reason"), "Dead letters written"),
    "ajc_bridge_replies_total": MetricDefinition(
        "counter", ("kind",), "Replies that changed nothing, or could not be read: late, duplicate, malformed"
    ),
    "ajc_bridge_heartbeats_total": MetricDefinition(
        "counter",
        ("kind",),
        "Heartbeats of responders: taken; malformed (taken, but its progress cannot be read); over (its attempt has "
        "ended); unknown",
    ),
    "ajc_bridge_retry_after_ignored_total": MetricDefinition(
        "counter", (), "Replies whose AJ-Retry-After-Ms was no number of milliseconds"
    ),
    "ajc_bridge_revision_conflicts_total": MetricDefinition(
        "counter", (), "Saves refused because somebody else had saved the task"
    ),
    "ajc_bridge_leases_lost_total": MetricDefinition("counter", ("queue",), "Leases that ran out while an attempt ran"),
    "ajc_bridge_items_came_again_total": MetricDefinition(
        "counter", ("queue",), "Items delivered again while this bridge worked on them; the attempt went on"
    ),
    "ajc_bridge_rescued_total": MetricDefinition(
        "counter", ("queue", "reason"), "Tasks found without an item that would bring them back"
    ),
    "ajc_bridge_due_items_held_up_total": MetricDefinition(
        "counter", ("queue",), "Items whose time had come and that found no room in a full queue, as far as looked at"
    ),
    "ajc_bridge_due_items_put_total": MetricDefinition(
        "counter", ("queue",), "Of those, items that this bridge itself has put into the queue"
    ),
    "ajc_bridge_dispatch_seconds": MetricDefinition("histogram", (), "From the item's arrival to the request"),
    "ajc_bridge_handler_seconds": MetricDefinition(
        "histogram", (), "From the request to the reply, or to the end of the wait"
    ),
    "ajc_bridge_connected": MetricDefinition("gauge", (), "1 while connected to NATS"),
    "ajc_bridge_reconnects_total": MetricDefinition(
        "counter", (), "Connections to NATS that were lost and found again"
    ),
    "ajc_bridge_log_lines_dropped_total": MetricDefinition(
        "counter", (), "Log lines left out because whoever reads them was too slow, or could not take them"
    ),
    "choria_asyncjobs_queue_item_corrupt_error_count": MetricDefinition(
        "counter", ("queue",), "Items that could not be decoded"
    ),
    "choria_asyncjobs_queue_task_not_found_error_count": MetricDefinition(
        "counter", ("queue",), "Items whose task does not exist"
    ),
    "choria_asyncjobs_queue_task_past_deadline_count": MetricDefinition(
        "counter", ("queue",), "Tasks that were past their deadline"
    ),
    "choria_asyncjobs_queue_task_past_max_tries_count": MetricDefinition(
        "counter", ("queue",), "Tasks that had used up their tries"
    ),
    "choria_asyncjobs_queue_poll_total": MetricDefinition("counter", ("queue",), "Pull requests sent"),
    "choria_asyncjobs_queue_poll_error_total": MetricDefinition("counter", ("queue",), "Pull requests that failed"),
    "choria_asyncjobs_task_update_total": MetricDefinition("counter", ("state",), "Saves of tasks, by the state saved"),
    "choria_asyncjobs_task_update_error_total": MetricDefinition("counter", (), "Saves of tasks that failed"),
    "choria_asyncjobs_handler_busy_count": MetricDefinition("gauge", (), "Handlers at work"),
    "choria_asyncjobs_handler_error_total": MetricDefinition(
        "counter", ("queue", "type"), "Attempts that were answered with an error, or timed out"
    ),
    "choria_asyncjobs_handler_runtime": MetricDefinition(
        "summary", ("queue", "type"), "Time that handlers took, in seconds; attempts that were answered or timed out"
    ),
}

HEAD: Final = """# Metrics

<!-- made by `python -m ajc_bridge.journal.metric_table docs/metrics.md`; a test compares -->

`GET /metrics` (see `http.listen` in [configuration](configuration.md)) has Prometheus' text format. Names that begin
with `choria_asyncjobs` are those of the Go implementation and mean the same, so that its dashboards show both; the
others are this bridge's own. Beside them are prometheus-client's `process_*` and `python_info`.

The label `type` takes the first 200 types seen, and every type that was ever served successfully; what arrives beyond
them is `other`. A task counts for the queue that held its item.

| Metric | Kind | Labels | Meaning |
| --- | --- | --- | --- |
"""


def document() -> str:
    """Return the whole page."""
    rows = [
        f"| `{name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |\n"
        for name, one in METRICS.items()
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    write_document(document())
