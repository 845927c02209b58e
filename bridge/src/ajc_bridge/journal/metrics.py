"""The metrics sink: plain counts in dictionaries while the work goes on, Prometheus' families when asked.

prometheus-client's own counters take a lock and a label lookup each; everything here happens on one loop, so a
dictionary is enough. The names are in `metric_table`; Go's are used exactly where they mean the same.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ajc_bridge import happenings as happened
from ajc_bridge.journal.journal import Handler
from ajc_bridge.journal.metric_table import METRICS, MetricDefinition

TYPE_LABELS: Final = 200
OTHER: Final = "other"
ERRORS: Final = frozenset({"failed", "terminated", "timed_out", "no_heartbeat", "malformed"})
ANSWERED: Final = ERRORS | {"succeeded", "result_too_large"}
BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
)

Labels = tuple[str, ...]


class Histogram:
    """Durations in seconds, counted by bucket."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class TypeLabels:
    """Task types as label values: the first 200, and every type that was ever served; what else arrives is `other`."""

    def __init__(self, limit: int = TYPE_LABELS) -> None:
        self._limit = limit
        self._own: dict[str, str] = {}
        self._served: set[str] = set()

    def of(self, task_type: str) -> str:
        """Return the label for this type."""
        label = self._own.get(task_type)
        if label is None:
            if len(self._own) - len(self._served) >= self._limit:
                return OTHER
            label = self._own[task_type] = task_type
        return label

    def served(self, task_type: str) -> str:
        """Note that a responder has done a task of this type: it has its own label from now on, which is returned."""
        if task_type not in self._served:
            self._served.add(task_type)
            self._own[task_type] = task_type
        return task_type


class Metrics(Collector):
    """Counts what happens. `text()` is the page for Prometheus. `lines_dropped` gives how many log lines were."""

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, lines_dropped: Callable[[], int] = int
    ) -> None:
        self._monotonic = monotonic
        self._lines_dropped = lines_dropped
        self._types = TypeLabels()
        self._counts = {name: defaultdict[Labels, int](int) for name, one in METRICS.items() if one.counted}
        self._attempts = self._counts["ajc_bridge_attempts_total"]
        self._updates = self._counts["choria_asyncjobs_task_update_total"]
        self._runtime: dict[Labels, list[float]] = defaultdict(lambda: [0, 0.0])
        self._dispatch = Histogram()
        self._handler = Histogram()
        self._slots = happened.SlotsChanged(0, 0, 0)
        self._connected = False
        self._parked: dict[Labels, list[float]] = defaultdict(list)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def handlers(self) -> Mapping[type[happened.Detail], Handler]:
        """Return what to call for which kind."""
        count = self._counter
        return {
            happened.AttemptEnded: self._attempt_ended,
            happened.AttemptCancelled: self._attempt_cancelled,
            happened.TaskSaved: self._task_saved,
            happened.SaveFailed: count("choria_asyncjobs_task_update_error_total"),
            happened.RevisionConflict: self._revision_conflict,
            happened.Pulled: count("choria_asyncjobs_queue_poll_total", "queue"),
            happened.PullFailed: count("choria_asyncjobs_queue_poll_error_total", "queue"),
            happened.DeadLettered: self._dead_lettered,
            happened.TaskSettled: self._task_settled,
            happened.TaskParked: self._task_parked,
            happened.ItemDropped: self._item_dropped,
            happened.ReplyIgnored: count("ajc_bridge_replies_total", "kind"),
            happened.AttemptBeaten: self._beaten,
            happened.BeatIgnored: count("ajc_bridge_heartbeats_total", "kind"),
            happened.RetryAfterIgnored: count("ajc_bridge_retry_after_ignored_total"),
            happened.Rescued: count("ajc_bridge_rescued_total", "queue", "reason"),
            happened.DueItemHeldUp: count("ajc_bridge_due_items_held_up_total", "queue"),
            happened.DueItemPut: count("ajc_bridge_due_items_put_total", "queue"),
            happened.ItemCameAgain: count("ajc_bridge_items_came_again_total", "queue"),
            happened.LeaseLost: count("ajc_bridge_leases_lost_total", "queue"),
            happened.SlotsChanged: self._slots_changed,
            happened.Connected: self._is_connected,
            happened.Reconnected: self._reconnected,
            happened.Disconnected: self._is_disconnected,
            happened.ConnectionClosed: self._is_disconnected,
        }

    def text(self) -> bytes:
        """Return the page: prometheus-client's text format, with Go's counters named as Go names them."""
        page = generate_latest(self._registry).decode()
        for name, one in METRICS.items():
            if one.kind == "counter" and not name.endswith("_total"):  # the library adds _total to a counter's head
                page = page.replace(f"# HELP {name}_total ", f"# HELP {name} ")
                page = page.replace(f"# TYPE {name}_total ", f"# TYPE {name} ")
        return page.encode()

    def collect(self) -> Iterator[Metric]:
        """Yield every family, in the order of the table."""
        for name, one in METRICS.items():
            yield _family(name, one, self._samples(name))

    def _counter(self, name: str, *fields: str) -> Handler:
        counts = self._counts[name]

        def count(detail: happened.Detail) -> None:
            counts[tuple(getattr(detail, field) for field in fields)] += 1

        return count

    def _attempt_ended(self, detail: happened.AttemptEnded) -> None:
        queue, task_type, outcome = detail.queue, detail.type, detail.outcome
        label = self._types.served(task_type) if outcome == "succeeded" else self._types.of(task_type)
        self._attempts[(queue, label, outcome)] += 1
        self._dispatch.observe(detail.dispatch_ns / 1e9)
        if outcome in ANSWERED:
            seconds = detail.handler_ns / 1e9
            self._handler.observe(seconds)
            runtime = self._runtime[(queue, label)]
            runtime[0] += 1
            runtime[1] += seconds
            if outcome in ERRORS:
                self._counts["choria_asyncjobs_handler_error_total"][(queue, label)] += 1

    def _beaten(self, _: happened.AttemptBeaten) -> None:
        self._counts["ajc_bridge_heartbeats_total"][("taken",)] += 1

    def _attempt_cancelled(self, detail: happened.AttemptCancelled) -> None:
        label = self._types.of(detail.type)
        self._counts["ajc_bridge_attempts_cancelled_total"][(detail.queue, label)] += 1

    def _task_saved(self, detail: happened.TaskSaved) -> None:
        if detail.revision:
            self._updates[(detail.task.state,)] += 1

    def _revision_conflict(self, _: happened.RevisionConflict) -> None:
        self._counts["choria_asyncjobs_task_update_error_total"][()] += 1
        self._counts["ajc_bridge_revision_conflicts_total"][()] += 1

    def _dead_lettered(self, detail: happened.DeadLettered) -> None:
        self._counts["ajc_bridge_dead_letters_total"][(detail.queue, detail.reason)] += 1
        if detail.reason == "malformed_item":
            self._counts["choria_asyncjobs_queue_item_corrupt_error_count"][(detail.queue,)] += 1

    def _task_settled(self, detail: happened.TaskSettled) -> None:
        if detail.reason == "deadline":
            self._counts["choria_asyncjobs_queue_task_past_deadline_count"][(detail.queue,)] += 1
        elif detail.reason == "tries":
            self._counts["choria_asyncjobs_queue_task_past_max_tries_count"][(detail.queue,)] += 1

    def _item_dropped(self, detail: happened.ItemDropped) -> None:
        if detail.reason == "no_record":
            self._counts["choria_asyncjobs_queue_task_not_found_error_count"][(detail.queue,)] += 1

    def _task_parked(self, detail: happened.TaskParked) -> None:
        now = self._monotonic()
        waiting = self._parked[(detail.queue, self._types.of(detail.type))]
        heapq.heappush(waiting, now + detail.delay_ns / 1e9)
        while waiting[0] < now:
            heapq.heappop(waiting)

    def _slots_changed(self, detail: happened.SlotsChanged) -> None:
        self._slots = detail

    def _is_connected(self, _: happened.Detail) -> None:
        self._connected = True

    def _is_disconnected(self, _: happened.Detail) -> None:
        self._connected = False

    def _reconnected(self, _: happened.Reconnected) -> None:
        self._connected = True
        self._counts["ajc_bridge_reconnects_total"][()] += 1

    def _samples(self, name: str) -> Iterator[tuple[str, Labels, float]]:
        """Yield (suffix, label values, value) of one family."""
        if name == "ajc_bridge_log_lines_dropped_total":
            yield "", (), self._lines_dropped()
        elif name in self._counts:
            counts = self._counts[name]
            if not METRICS[name].labels and not counts:
                yield "", (), 0
            yield from (("", labels, value) for labels, value in counts.items())
        elif name == "choria_asyncjobs_handler_runtime":
            for labels, (count, seconds) in self._runtime.items():
                yield "_count", labels, count
                yield "_sum", labels, seconds
        elif name == "ajc_bridge_dispatch_seconds":
            yield from _buckets(self._dispatch)
        elif name == "ajc_bridge_handler_seconds":
            yield from _buckets(self._handler)
        elif name == "choria_asyncjobs_handler_busy_count":
            yield "", (), self._slots.busy
        elif name == "ajc_bridge_connected":
            yield "", (), int(self._connected)
        elif name == "ajc_bridge_slots":
            yield "", ("busy",), self._slots.busy
            yield "", ("pulling",), self._slots.pulling
            yield "", ("free",), self._slots.total - self._slots.busy - self._slots.pulling
        elif name == "ajc_bridge_parked":
            now = self._monotonic()
            for labels, waiting in self._parked.items():
                while waiting and waiting[0] < now:
                    heapq.heappop(waiting)
                yield "", labels, len(waiting)


def _buckets(histogram: Histogram) -> Iterator[tuple[str, Labels, float]]:
    below = 0
    for bound, count in zip((*BUCKETS, float("inf")), histogram.counts, strict=True):
        below += count
        yield "_bucket", ("+Inf" if bound == float("inf") else repr(bound),), below
    yield "_count", (), below
    yield "_sum", (), histogram.total


def _family(name: str, one: MetricDefinition, samples: Iterator[tuple[str, Labels, float]]) -> Metric:
    counter = one.kind == "counter"
    family = Metric(name.removesuffix("_total") if counter else name, one.help, one.kind)
    for suffix, values, value in samples:
        names = ("le",) if suffix == "_bucket" else one.labels
        family.add_sample(name + suffix, dict(zip(names, values, strict=True)), value)
    return family
