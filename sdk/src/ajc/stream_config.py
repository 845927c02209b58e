"""JetStream's configurations of everything stored: pure functions from settings, or a configuration, to another.

Each returns a whole object for STREAM.CREATE, STREAM.UPDATE or CONSUMER.CREATE: an update sends back all that was
read with one field changed, because the server resets what is left out. The plain settings are those of the Go
implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ajc.duration import format_duration, parse_duration
from ajc.errors import AjcError, InvalidValue
from ajc.queue import (
    DEFAULT_BACKOFF,
    DEFAULT_LEASE,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_MAX_RUN_TIME,
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    Queue,
    QueueInfo,
)
from ajc.subjects import (
    CONSUMER,
    DELAY_STREAM,
    DELAY_SUBJECTS,
    DLQ_STREAM,
    DLQ_SUBJECTS,
    TASK_SUBJECTS,
    TASKS_STREAM,
    queue_of_stream,
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


class Change(msgspec.Struct, frozen=True):
    """One setting of a queue that is, or shall be, another one: texts as people read them."""

    field: str
    before: str
    after: str


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


def read_queue_info(stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> QueueInfo:
    """Return the queue that the answers of STREAM.INFO and CONSUMER.INFO describe.

    Metadata that cannot be read counts as absent: a typing error there must not stop a queue.
    """
    config: Mapping[str, Any] = stream["config"]
    worker: Mapping[str, Any] = consumer["config"]
    name = queue_of_stream(config["name"])
    if name is None:
        raise InvalidValue("queue", config["name"], "is no stream of a queue")
    metadata: Mapping[str, str] = config.get("metadata") or {}
    lease = int(worker.get("ack_wait") or 0)
    run_time = _metadata_duration(metadata, MAX_RUN_TIME_KEY)
    max_deliver = int(worker.get("max_deliver") or -1)
    limits = [limit for limit in (_metadata_int(metadata, MAX_TRIES_KEY, 0), max_deliver) if limit > 0]
    priority = _metadata_int(metadata, PRIORITY_KEY, DEFAULT_PRIORITY)
    state: Mapping[str, Any] = stream.get("state") or {}
    when_full: Literal["reject", "discard_old"] = "discard_old" if config.get("discard") == "old" else "reject"
    return QueueInfo(
        name=name,
        max_tries=min(limits, default=0),
        max_run_time_ns=run_time or lease,
        lease_ns=lease,
        renews=run_time is not None,
        max_concurrent=int(worker.get("max_ack_pending") or -1),
        max_entries=max(0, int(config.get("max_msgs") or 0)),
        when_full=when_full,
        max_age_ns=int(config.get("max_age") or 0),
        priority=priority if 1 <= priority <= MAX_PRIORITY else DEFAULT_PRIORITY,
        backoff=metadata.get(BACKOFF_KEY) or DEFAULT_BACKOFF,
        paused=metadata.get(PAUSED_KEY) == "true",
        storage=str(config.get("storage") or "file"),
        replicas=int(config.get("num_replicas") or 1),
        max_deliver=max_deliver,
        delayed_items=has_delayed_items(config, name),
        messages=int(state.get("messages") or 0),
        pending=int(consumer.get("num_pending") or 0),
        ack_pending=int(consumer.get("num_ack_pending") or 0),
        redelivered=int(consumer.get("num_redelivered") or 0),
        bytes=int(state.get("bytes") or 0),
        stream_config=config,
        consumer_config=worker,
    )


def differences(info: QueueInfo, queue: Queue) -> tuple[Change, ...]:
    """Return each setting that `queue` gives and that the queue does not have: before = there, after = asked for."""
    found: list[Change] = []

    def compare(field: str, there: object, asked: object | None, *, duration: bool = False) -> None:
        if asked is not None and there != asked:
            show = _show_duration if duration else str
            found.append(Change(field, show(there), show(asked)))

    # the setting, where there is one: the server's own cap may be lower, and no setting can raise that
    metadata = info.stream_config.get("metadata") or {}
    compare("max_tries", _metadata_int(metadata, MAX_TRIES_KEY, info.max_tries), queue.max_tries)
    if queue.max_run_time_ns is not None and not info.renews and info.max_run_time_ns == queue.max_run_time_ns:
        pass  # a queue whose lease is its run time has it already
    else:
        compare("max_run_time", info.max_run_time_ns, queue.max_run_time_ns, duration=True)
    compare("lease", info.lease_ns, queue.lease_ns, duration=True)
    compare("max_concurrent", info.max_concurrent, queue.max_concurrent)
    compare("max_entries", info.max_entries, queue.max_entries)
    compare("when_full", info.when_full, queue.when_full)
    compare("max_age", info.max_age_ns, queue.max_age_ns, duration=True)
    compare("priority", info.priority, queue.priority)
    compare("backoff", info.backoff, queue.backoff)
    compare("paused", info.paused, queue.paused)
    compare("storage", info.storage, queue.storage)
    compare("replicas", info.replicas, queue.replicas)
    return tuple(found)


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


def _metadata_int(metadata: Mapping[str, str], key: str, default: int) -> int:
    try:
        return int(metadata[key])
    except (KeyError, ValueError):
        return default


def _metadata_duration(metadata: Mapping[str, str], key: str) -> int | None:
    try:
        return parse_duration(metadata[key]) or None
    except (KeyError, AjcError):
        return None


def _show_duration(value: object) -> str:
    return format_duration(value) if isinstance(value, int) and value else "none"
