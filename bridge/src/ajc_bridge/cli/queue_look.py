"""What a queue's own definition does not say: what waits beside it, is its policy known, how often it tries a task."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Final

from ajc.connection import Connection
from ajc.errors import NoResponders, NotFound, NotPermitted, RequestTimeout, StoreError
from ajc.stored_queue import read_queue_info
from ajc.subjects import CONSUMER, DELAY_STREAM, fired_of, is_queue, queue_stream, schedules_of
from ajc.task import Task

LOOK_SECONDS: Final = 2.0
_PAST_ALL: Final = 2**31
"""An offset that no list of subjects reaches: the answer has their number, and none of them."""


async def delayed(connection: Connection, queue: str) -> int | None:
    """Return how many items of the queue wait for their time (retries, parked ones); None where nobody says.

    Raises `Closed` when the connection is.
    """
    return await _count(connection, schedules_of(queue))


async def due(connection: Connection, queue: str) -> int:
    """Return how many items of the queue whose time has come wait for room in it; 0 where nobody says."""
    return await _count(connection, fired_of(queue)) or 0


async def _count(connection: Connection, every: str) -> int | None:
    query = {"subjects_filter": every, "offset": _PAST_ALL}
    try:
        info = await connection.api(f"STREAM.INFO.{DELAY_STREAM}", query, timeout=LOOK_SECONDS)
    except NotFound:
        return 0
    except (RequestTimeout, NotPermitted, NoResponders, StoreError):  # no right to look is no reason to show nothing
        return None
    return int(info.get("total") or 0)


async def most_tries(connection: Connection, task: Task) -> int:
    """Return how often the task is tried at most: its own limit or its queue's, the smaller; 0 for no limit.

    A queue that nobody can be asked about has no say. Raises `Closed` when the connection is.
    """
    of_queue = await _queue_tries(connection, task.queue) if is_queue(task.queue) else 0
    return min((limit for limit in (task.max_tries, of_queue) if limit > 0), default=0)


async def _queue_tries(connection: Connection, queue: str) -> int:
    stream = queue_stream(queue)
    try:
        info = await connection.api(f"STREAM.INFO.{stream}", timeout=LOOK_SECONDS)
        consumer = await connection.api(f"CONSUMER.INFO.{stream}.{CONSUMER}", timeout=LOOK_SECONDS)
    except (
        NotFound,
        NotPermitted,
        RequestTimeout,
        NoResponders,
        StoreError,
    ):  # no right to look is no reason to show nothing
        return 0
    return read_queue_info(info, consumer).max_tries


def own_policies() -> tuple[str, ...]:
    """Return the policies of the configuration in this folder and environment; none when it is wrong, or not there."""
    from ajc_bridge.config import ConfigError, load_config  # noqa: PLC0415 - it is heavy, and most commands need none

    with warnings.catch_warnings(action="ignore"):
        try:
            return tuple(load_config().backoff)
        except ConfigError:
            return ()


def unknown_policy(name: str, own: Iterable[str]) -> str:
    """Return what to say of a policy that is neither built in nor among `own`; "" of one that is."""
    from ajc_bridge.config.model import GO_POLICIES  # noqa: PLC0415 - likewise

    if name in GO_POLICIES or name in own:
        return ""
    return (
        f"backoff policy {name!r} is not built in ({', '.join(GO_POLICIES)}): "
        f"a bridge whose file has no [backoff.{name}] uses default"
    )
