"""JetStream's configurations of everything stored: pure functions from settings, or a configuration, to another.

Each returns a whole object for STREAM.CREATE, STREAM.UPDATE or CONSUMER.CREATE: an update sends back all that was
read with one field changed, because the server resets what is left out. The plain settings are those of the Go
implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ajc.duration import format_duration
from ajc.queue import (
    DEFAULT_LEASE,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_MAX_RUN_TIME,
    Queue,
)
from ajc.subjects import (
    CONSUMER,
    DELAY_STREAM,
    DELAY_SUBJECTS,
    DLQ_STREAM,
    DLQ_SUBJECTS,
    TASK_SUBJECTS,
    TASKS_STREAM,
    queue_stream,
    queue_subjects,
)

Config = dict[str, Any]
"""A configuration object as JetStream's API has it."""

DUPLICATE_WINDOW: Final = 120 * 1_000_000_000
DEFAULT_DLQ_MAX_AGE: Final = 30 * 86_400 * 1_000_000_000
DEFAULT_DLQ_MAX_ENTRIES: Final = 100_000

MAX_RUN_TIME_KEY: Final = "ajc.max_run_time"
MAX_TRIES_KEY: Final = "ajc.max_tries"
PRIORITY_KEY: Final = "ajc.priority"
BACKOFF_KEY: Final = "ajc.backoff"
PAUSED_KEY: Final = "ajc.paused"


def task_store(*, replicas: int = 1, storage: str = "file", max_age_ns: int = 0, msg_ttl: bool = False) -> Config:
    """Return the task store: as the Go implementation has it, and readable in batches (`allow_direct`)."""
    config = _stream(TASKS_STREAM, "Choria Async Jobs Tasks", [TASK_SUBJECTS], replicas=replicas, storage=storage)
    return config | {
        "max_age": max_age_ns,
        "duplicate_window": _duplicate_window(max_age_ns),
        "allow_direct": True,
        "allow_msg_ttl": msg_ttl,
    }


def delay_stream(*, replicas: int = 1, storage: str = "file") -> Config:
    """Return the stream of waiting items: a schedule each, which the server turns into a fired item when it is due."""
    subjects = list(DELAY_SUBJECTS)
    config = _stream(DELAY_STREAM, "ajc-bridge waiting items", subjects, replicas=replicas, storage=storage)
    return config | {"retention": "workqueue", "allow_msg_schedules": True}


def dead_letter_stream(
    *,
    replicas: int = 1,
    storage: str = "file",
    max_age_ns: int = DEFAULT_DLQ_MAX_AGE,
    max_entries: int = DEFAULT_DLQ_MAX_ENTRIES,
) -> Config:
    """Return the stream of dead letters: one a task, the oldest go first. 0 means no limit."""
    config = _stream(DLQ_STREAM, "ajc-bridge dead letters", [DLQ_SUBJECTS], replicas=replicas, storage=storage)
    return config | {
        "max_age": max_age_ns,
        "max_msgs": max_entries or -1,
        "duplicate_window": _duplicate_window(max_age_ns),
        "allow_direct": True,
    }


def with_dead_letter_limits(config: Mapping[str, Any], *, max_age_ns: int | None, max_entries: int | None) -> Config:
    """Return the stream of dead letters with each limit that is given (0 is none), and everything else as it is."""
    changed = dict(config)
    if max_age_ns is not None:
        changed["max_age"] = max_age_ns
        changed["duplicate_window"] = _duplicate_window(max_age_ns, config.get("duplicate_window"))
    if max_entries is not None:
        changed["max_msgs"] = max_entries or -1
    return changed


def queue_stream_config(queue: Queue) -> Config:
    """Return the stream of a new queue."""
    config = _stream(
        queue_stream(queue.name),
        "Choria Async Jobs Work Queue",
        [queue_subjects(queue.name)],
        replicas=queue.replicas or 1,
        storage=queue.storage or "file",
    )
    config |= {"retention": "workqueue", "discard": "new"}
    config["metadata"] = {MAX_RUN_TIME_KEY: format_duration(queue.max_run_time_ns or DEFAULT_MAX_RUN_TIME)}
    return with_queue_settings(with_delayed_items(config, queue.name), queue)


def queue_consumer_config(queue: Queue) -> Config:
    """Return the consumer of a new queue: its lease is `ack_wait`, and the server never stops delivering."""
    config: Config = {
        "durable_name": CONSUMER,
        "name": CONSUMER,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": min(DEFAULT_LEASE, queue.max_run_time_ns or DEFAULT_MAX_RUN_TIME),
        "max_deliver": -1,
        "replay_policy": "instant",
        "max_waiting": 512,
        "max_ack_pending": DEFAULT_MAX_CONCURRENT,
        "num_replicas": 0,
    }
    return with_consumer_settings(config, queue)


def with_queue_settings(config: Mapping[str, Any], queue: Queue) -> Config:
    """Return the queue's stream with each setting that `queue` gives, and everything else as it is."""
    changed = dict(config)
    metadata = dict(config.get("metadata") or {})
    if queue.max_entries is not None:
        changed["max_msgs"] = queue.max_entries or -1
    if queue.max_age_ns is not None:
        changed["max_age"] = queue.max_age_ns
        changed["duplicate_window"] = _duplicate_window(queue.max_age_ns, config.get("duplicate_window"))
    if queue.when_full is not None:
        changed["discard"] = "old" if queue.when_full == "discard_old" else "new"
    if queue.max_run_time_ns is not None:
        metadata[MAX_RUN_TIME_KEY] = format_duration(queue.max_run_time_ns)
    if queue.max_tries is not None:
        metadata[MAX_TRIES_KEY] = str(queue.max_tries)
    if queue.priority is not None:
        metadata[PRIORITY_KEY] = str(queue.priority)
    if queue.backoff is not None:
        metadata[BACKOFF_KEY] = queue.backoff
    if queue.paused is not None:
        metadata[PAUSED_KEY] = "true" if queue.paused else "false"
    changed["metadata"] = metadata
    return changed


def with_consumer_settings(config: Mapping[str, Any], queue: Queue) -> Config:
    """Return the queue's consumer with each setting that `queue` gives, and everything else as it is."""
    changed = dict(config)
    if queue.lease_ns is not None:
        changed["ack_wait"] = queue.lease_ns
    if queue.max_concurrent is not None:
        changed["max_ack_pending"] = queue.max_concurrent
    return changed


def with_delayed_items(config: Mapping[str, Any], queue: str) -> Config:
    """Return the queue's stream with the delay stream as a source; other sources stay."""
    if has_delayed_items(config, queue):
        return dict(config)
    transform = {"src": f"CHORIA_AJ.D.F.{queue}.*", "dest": f"CHORIA_AJ.Q.{queue}.{{{{wildcard(1)}}}}"}
    others = [source for source in config.get("sources") or [] if source.get("name") != DELAY_STREAM]
    return dict(config) | {"sources": [*others, {"name": DELAY_STREAM, "subject_transforms": [transform]}]}


def has_delayed_items(config: Mapping[str, Any], queue: str) -> bool:
    """Say whether fired items of the delay stream reach this queue's stream."""
    return any(
        source.get("name") == DELAY_STREAM
        and any(
            transform.get("src") == f"CHORIA_AJ.D.F.{queue}.*"
            and transform.get("dest") == f"CHORIA_AJ.Q.{queue}.{{{{wildcard(1)}}}}"
            for transform in source.get("subject_transforms") or []
        )
        for source in config.get("sources") or []
    )


def with_direct_reads(config: Mapping[str, Any], *, msg_ttl: bool) -> Config:
    """Return a task store that can be read in batches, and (`msg_ttl`) hold tasks with an age limit of their own."""
    return dict(config) | {"allow_direct": True} | ({"allow_msg_ttl": True} if msg_ttl else {})


def _stream(name: str, description: str, subjects: list[str], *, replicas: int, storage: str) -> Config:
    return {
        "name": name,
        "description": description,
        "subjects": subjects,
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": 1,
        "max_msg_size": -1,
        "discard": "old",
        "storage": storage,
        "num_replicas": replicas,
        "duplicate_window": DUPLICATE_WINDOW,
    }


def _duplicate_window(max_age_ns: int, now: int | None = None) -> int:
    # the server refuses a window that is longer than the age
    window = now or DUPLICATE_WINDOW
    return min(window, max_age_ns) if max_age_ns else window
