"""Queues as the server has them, made and changed as the configuration says: what a lane is built from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from ajc.connection import Connection
from ajc.errors import InvalidValue, NotFound
from ajc.queue import Queue, QueueInfo
from ajc.stored_queue import Change
from ajc.subjects import DLQ_STREAM, TASKS_STREAM
from ajc.topology import apply_queue, ensure_queue, ensure_stores, list_queues, read_queue
from ajc_bridge.config import BackoffConfig, Config, QueueConfig
from ajc_bridge.decision.policy import NAMED_BACKOFFS, Backoff, QueuePolicy


async def prepare_stores(
    connection: Connection, config: Config, *, apply: bool = True
) -> tuple[int, tuple[Change, ...]]:
    """Make the streams that all queues share; return the task store's own limit of a message, in bytes (-1: none).

    Without `apply`, dead letters that are stored already keep their limits. Raises `NotFound` when the task store is
    missing and `bridge.create` is off, `InvalidValue` for a store that cannot do what the configuration asks for,
    `StoreError` and `Unavailable`.
    """
    changes: tuple[Change, ...] = ()
    with_age = any(ttl > 0 for ttl in config.retention.ttl_ns().values())
    if config.bridge.create:
        limits = apply or not await _exists(connection, DLQ_STREAM)
        changes = await ensure_stores(
            connection,
            replicas=config.bridge.replicas,
            msg_ttl=with_age,
            dlq_max_age_ns=config.dlq.max_age if limits else None,
            dlq_max_entries=config.dlq.max_entries if limits else None,
        )
    info = await connection.api(f"STREAM.INFO.{TASKS_STREAM}")
    if with_age and not info["config"].get("allow_msg_ttl"):
        raise InvalidValue(
            "retention", "a time", f"stream {TASKS_STREAM} has no allow_msg_ttl, and bridge.create is off: switch it on"
        )
    return int(info["config"].get("max_msg_size") or -1), changes


async def bind_queue(
    connection: Connection, name: str, settings: QueueConfig | None, config: Config, *, apply: bool = True
) -> tuple[QueueInfo, tuple[Change, ...], bool]:
    """Return the queue as it is then, what was changed, and whether it was made now.

    What is missing is made as the settings say, its source of delayed items too; what is there gets them only with
    `apply`. Raises `NotFound` when it is missing and may not be made, `InvalidValue` for a setting that cannot change,
    `StoreError` and `Unavailable`.
    """
    wanted = make_queue(name, settings)
    created = False
    try:
        info = await read_queue(connection, name)
    except NotFound:
        if not config.bridge.create:
            raise
        created = True
    if created or not info.delayed_items:
        if wanted.replicas is None and created:
            wanted = make_queue(name, settings, replicas=config.bridge.replicas)
        info = await ensure_queue(connection, wanted, stores=False)
    if not apply:
        return info, (), created
    info, changes = await apply_queue(connection, wanted)
    return info, changes, created


async def _exists(connection: Connection, stream: str) -> bool:
    try:
        await connection.api(f"STREAM.INFO.{stream}")
    except NotFound:
        return False
    return True


def make_queue(name: str, settings: QueueConfig | None, *, replicas: int | None = None) -> Queue:
    """Return the queue that these settings describe; what they leave out is left out there too."""
    if settings is None:
        return Queue(name, replicas=replicas)
    return Queue(
        name,
        max_tries=settings.max_tries,
        max_run_time=_duration(settings.max_run_time),
        lease=_duration(settings.lease),
        max_concurrent=settings.max_concurrent,
        max_entries=settings.max_entries,
        when_full=settings.when_full,
        max_age=_duration(settings.max_age),
        priority=settings.priority,
        backoff=settings.backoff,
        storage=settings.storage,
        replicas=settings.replicas if replicas is None else replicas,
    )


async def served_names(connection: Connection, config: Config) -> list[str]:
    """Return which queues to serve: the configuration's, else every one there is, and DEFAULT if it may be made."""
    if config.queues:
        return list(config.queues)
    names = await list_queues(connection)
    if config.bridge.create and "DEFAULT" not in names:
        names.append("DEFAULT")
    return names


def make_policy(info: QueueInfo, config: Config) -> QueuePolicy:
    """Return the rules that the decisions follow for this queue."""
    return QueuePolicy(
        queue=info.name,
        lease_ns=info.lease_ns,
        max_run_time_ns=info.max_run_time_ns,
        max_tries=info.max_tries,
        max_deliver=max(info.max_deliver, 0),
        evicts=info.when_full == "discard_old",
        max_age_ns=info.max_age_ns,
        backoff=named_backoff(info.backoff, config.backoff),
        renews=info.renews,
        retention=config.retention.ttl_ns(),
    )


def named_backoff(name: str, own: Mapping[str, BackoffConfig]) -> Backoff:
    """Return the policy of that name: the configuration's or Go's, `default` for a name that nobody knows."""
    settings = own.get(name)
    if settings is not None:
        return Backoff(name, tuple(settings.steps), settings.jitter)
    return NAMED_BACKOFFS.get(name, NAMED_BACKOFFS["default"])


def _duration(nanoseconds: int | None) -> timedelta | None:
    return None if nanoseconds is None else timedelta(microseconds=nanoseconds // 1000)
