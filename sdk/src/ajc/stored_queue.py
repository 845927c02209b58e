"""A queue as it is stored: read from the server's answers, and where it differs from what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ajc.duration import format_duration, parse_duration
from ajc.errors import AjcError, InvalidValue
from ajc.queue import DEFAULT_BACKOFF, DEFAULT_PRIORITY, MAX_PRIORITY, Queue, QueueInfo
from ajc.stream_config import (
    BACKOFF_KEY,
    MAX_RUN_TIME_KEY,
    MAX_TRIES_KEY,
    PAUSED_KEY,
    PRIORITY_KEY,
    has_delayed_items,
)
from ajc.subjects import queue_of_stream


class Change(msgspec.Struct, frozen=True):
    """One setting of a queue that is, or shall be, another one: texts as people read them."""

    field: str
    before: str
    after: str


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
