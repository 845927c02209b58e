"""Makes, reads and changes what the server stores: the task store, the delay stream, the dead letters, the queues.

Everything here may run in several processes at once: a stream that somebody else made meanwhile is taken as it is.
What exists is changed field by field, and only where this project has a reason: see `ajc.stream_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ajc.connection import Connection
from ajc.errors import InvalidValue, NotFound, StoreError
from ajc.queue import Queue, QueueInfo
from ajc.stored_queue import Change, differences, read_queue_info
from ajc.stream_config import (
    Config,
    dead_letter_stream,
    delay_stream,
    queue_consumer_config,
    queue_stream_config,
    task_store,
    with_consumer_settings,
    with_dead_letter_limits,
    with_delayed_items,
    with_direct_reads,
    with_queue_settings,
)
from ajc.subjects import (
    ALL_ITEMS,
    CONSUMER,
    DELAY_STREAM,
    check_queue,
    fired_of,
    queue_of_stream,
    queue_stream,
    schedules_of,
)

_NAME_IN_USE: Final = frozenset({10058, 10148, 10105, 10013})  # streams and consumers that somebody else just made
_TIMEOUT: Final = 10.0


async def ensure_stores(
    connection: Connection,
    *,
    replicas: int = 1,
    storage: str = "file",
    msg_ttl: bool = False,
    dlq_max_age_ns: int | None = None,
    dlq_max_entries: int | None = None,
) -> tuple[Change, ...]:
    """Make the task store, the delay stream and the dead letters' stream where they are missing; return the changes.

    A task store that exists keeps every setting but two: `allow_direct` is switched on, and `allow_msg_ttl` when
    `msg_ttl` asks for it. The dead letters' age (nanoseconds) and number are set when they are given; 0 is no limit.
    Raises `StoreError` and `Unavailable`.
    """
    changes: list[Change] = []
    store = task_store(replicas=replicas, storage=storage, msg_ttl=msg_ttl)
    await _ensure_stream(connection, store, lambda config: with_direct_reads(config, msg_ttl=msg_ttl), changes)
    await _ensure_stream(connection, delay_stream(replicas=replicas, storage=storage), dict, changes)

    def limited(config: Config) -> Config:
        return with_dead_letter_limits(config, max_age_ns=dlq_max_age_ns, max_entries=dlq_max_entries)

    letters = limited(dead_letter_stream(replicas=replicas, storage=storage))
    await _ensure_stream(connection, letters, limited, changes)
    return tuple(changes)


async def ensure_queue(connection: Connection, queue: Queue, *, stores: bool = True) -> QueueInfo:
    """Make the queue where it is missing (its consumer alone too), else take it as it is; return what is there.

    `QueueInfo.differences` has a line for each setting that was asked for and is another one there. The stores are
    made as well (not with `stores=False`): without the delay stream a queue has no retries. Raises `InvalidValue`
    for a stream of this name that is no work queue, `StoreError` and `Unavailable`.
    """
    if stores:
        await ensure_stores(connection, replicas=queue.replicas or 1, storage=queue.storage or "file")
    changes: list[Change] = []
    await _ensure_stream(
        connection, queue_stream_config(queue), lambda config: with_delayed_items(config, queue.name), changes
    )
    await _ensure_consumer(connection, queue)
    info = await read_queue(connection, queue.name)
    lines = tuple(f"{change.field} is {change.before}, not {change.after}" for change in differences(info, queue))
    return msgspec.structs.replace(info, differences=lines)


async def apply_queue(connection: Connection, queue: Queue) -> tuple[QueueInfo, tuple[Change, ...]]:
    """Give an existing queue each setting that `queue` names; return it as it is then, and what was changed.

    Raises `InvalidValue` for a setting that cannot change (storage), `NotFound`, `StoreError` and `Unavailable`.
    """
    before = await read_queue(connection, queue.name)
    changes = possible_changes(before, queue)
    if not changes:
        return before, ()
    stream = with_queue_settings(before.stream_config, queue)
    if queue.replicas is not None:
        stream["num_replicas"] = queue.replicas
    if stream != before.stream_config:
        await connection.api(f"STREAM.UPDATE.{stream['name']}", stream, timeout=_TIMEOUT)
    consumer = with_consumer_settings(before.consumer_config, queue)
    if consumer != before.consumer_config:
        await _put_consumer(connection, stream["name"], consumer, "update")
    return await read_queue(connection, queue.name), changes


def possible_changes(before: QueueInfo, queue: Queue) -> tuple[Change, ...]:
    """Return what `apply_queue` would change. Raises `InvalidValue` for a setting that cannot change (storage)."""
    changes = differences(before, queue)
    for change in changes:
        if change.field == "storage":
            raise InvalidValue(
                "storage", change.after, f"queue {queue.name} has {change.before}, and that cannot change"
            )
    return changes


async def read_queue(connection: Connection, name: str) -> QueueInfo:
    """Return the queue as the server has it. Raises `NotFound` when its stream or its consumer is missing."""
    stream_name = queue_stream(check_queue(name))
    try:
        stream = await connection.api(f"STREAM.INFO.{stream_name}")
    except NotFound:
        raise NotFound("queue", name, code=10059) from None
    try:
        consumer = await connection.api(f"CONSUMER.INFO.{stream_name}.{CONSUMER}")
    except NotFound:
        raise NotFound(f"consumer {CONSUMER} of queue", name, code=10014) from None
    return read_queue_info(stream, consumer)


async def list_queues(connection: Connection) -> list[str]:
    """Return the names of all queues, sorted: every stream with subjects below `CHORIA_AJ.Q`."""
    names: set[str] = set()
    seen = 0
    while True:
        page = await connection.api("STREAM.NAMES", {"subject": ALL_ITEMS, "offset": seen})
        streams = page.get("streams") or []
        seen += len(streams)
        names.update(name for stream in streams if (name := queue_of_stream(stream)) is not None)
        if not streams or seen >= int(page.get("total") or 0):
            return sorted(names)


async def purge_queue(connection: Connection, name: str) -> int:
    """Remove every item of the queue, the waiting ones too; return how many there were. The tasks' records stay."""
    stream = queue_stream(check_queue(name))
    try:
        await connection.api(f"STREAM.INFO.{stream}")
    except NotFound:
        raise NotFound("queue", name, code=10059) from None
    waiting = await _purge_delayed(connection, name)
    answer = await connection.api(f"STREAM.PURGE.{stream}", {}, timeout=_TIMEOUT)
    return waiting + int(answer.get("purged") or 0)


async def delete_queue(connection: Connection, name: str) -> None:
    """Remove the queue with all its items, the waiting ones too. The tasks' records stay. Raises `NotFound`."""
    try:
        await connection.api(f"STREAM.DELETE.{queue_stream(check_queue(name))}", timeout=_TIMEOUT)
    except NotFound:
        raise NotFound("queue", name, code=10059) from None
    await _purge_delayed(connection, name)


async def purge_subject(connection: Connection, stream: str, subject: str) -> int:
    """Remove a subject's messages (wildcards allowed) from a stream; return how many. A missing stream holds none."""
    try:
        answer = await connection.api(f"STREAM.PURGE.{stream}", {"filter": subject}, timeout=_TIMEOUT)
    except NotFound:
        return 0
    return int(answer.get("purged") or 0)


async def _purge_delayed(connection: Connection, name: str) -> int:
    scheduled = await purge_subject(connection, DELAY_STREAM, schedules_of(name))
    return scheduled + await purge_subject(connection, DELAY_STREAM, fired_of(name))


async def _ensure_stream(
    connection: Connection, wanted: Config, amend: Callable[[Config], Config], changes: list[Change]
) -> None:
    """Make the stream, or send back what is there as `amend` returns it where that is something else."""
    name = wanted["name"]
    try:
        found = await connection.api(f"STREAM.INFO.{name}")
    except NotFound:
        try:
            await connection.api(f"STREAM.CREATE.{name}", wanted, timeout=_TIMEOUT)
        except StoreError as error:
            if error.code not in _NAME_IN_USE:
                raise
            found = await connection.api(f"STREAM.INFO.{name}")
        else:
            changes.append(Change(name, "absent", "created"))
            return
    config: Config = found["config"]
    if config.get("retention") != wanted["retention"]:
        raise InvalidValue(
            name, config.get("retention"), f"its retention must be {wanted['retention']}, and that cannot change"
        )
    amended = amend(config)
    if amended == config:
        return
    await connection.api(f"STREAM.UPDATE.{name}", amended, timeout=_TIMEOUT)
    changes.extend(
        Change(f"{name}.{key}", str(config.get(key)), str(value))
        for key, value in amended.items()
        if config.get(key) != value
    )


async def _ensure_consumer(connection: Connection, queue: Queue) -> None:
    stream = queue_stream(queue.name)
    try:
        await connection.api(f"CONSUMER.INFO.{stream}.{CONSUMER}")
    except NotFound:
        try:
            await _put_consumer(connection, stream, queue_consumer_config(queue), "create")
        except StoreError as error:
            if error.code not in _NAME_IN_USE:
                raise


async def _put_consumer(connection: Connection, stream: str, config: dict[str, Any], action: str) -> None:
    request = {"stream_name": stream, "config": config, "action": action}
    await connection.api(f"CONSUMER.DURABLE.CREATE.{stream}.{CONSUMER}", request, timeout=_TIMEOUT)
