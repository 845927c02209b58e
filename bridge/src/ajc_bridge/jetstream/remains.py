"""What a killed server brings back: messages that were removed before, and that nothing will ever deliver again.

A nats-server that ends without a word may forget removals it had acknowledged: items that were acked, fired items
that had moved into their queue, schedules that were replaced. They run nothing, but they take space and count against
the queue's limit. The consumers' acknowledgement floors, and the schedules' own times, tell them from what still waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from ajc import subjects
from ajc.connection import Connection
from ajc.errors import MalformedHeaders, MalformedInstant, NotFound, StoreError, Unavailable
from ajc.headers import parse_headers
from ajc.instant import SECOND, Instant
from ajc.stored_message import StoredMessage, delete_message, next_message
from ajc_bridge.jetstream.server_time import server_now

OVERDUE_NS: Final = 60 * SECOND
"""A schedule fires within a quarter of a second, and within some after a restart; one this late never will."""
_READ_SECONDS: Final = 5.0
_MOST: Final = 10_000


class Remains:
    """Removes what is left of one queue. May run in several bridges at once: every step is idempotent."""

    def __init__(self, connection: Connection, queue: str, *, overdue_ns: int = OVERDUE_NS) -> None:
        self._overdue_ns = overdue_ns
        self._connection = connection
        self._queue = queue
        self._stream = subjects.queue_stream(queue)

    async def clear(self) -> int:
        """Remove it, and return how many messages that were. Raises `Unavailable`."""
        try:
            return await self._items() + await self._fired() + await self._schedules()
        except NotFound:
            return 0  # the queue is gone
        except StoreError as error:
            raise Unavailable(str(error)) from error

    async def _items(self) -> int:
        """Remove items at or below the floor up to which every one was acknowledged.

        Not where the server gives up after so many deliveries: there one below the floor may be one it gave up.
        """
        info = await self._api(f"CONSUMER.INFO.{self._stream}.{subjects.CONSUMER}")
        if int(info["config"].get("max_deliver") or -1) > 0:
            return 0
        floor = int(info["ack_floor"]["stream_seq"])
        return await self._up_to(floor, self._stream, subjects.items_of(self._queue))

    async def _fired(self) -> int:
        """Remove fired items that the queue has taken over: its sourcing consumer acknowledged them."""
        offset = 0
        while True:
            page = await self._api(f"CONSUMER.LIST.{subjects.DELAY_STREAM}", {"offset": offset})
            consumers = page.get("consumers") or []
            for consumer in consumers:
                if consumer["config"].get("filter_subject") == subjects.fired_of(self._queue):
                    floor = int(consumer["ack_floor"]["stream_seq"])
                    return await self._up_to(floor, subjects.DELAY_STREAM, subjects.fired_of(self._queue))
            offset += len(consumers)
            if not consumers or offset >= int(page.get("total") or 0):
                return 0

    async def _schedules(self) -> int:
        # the server fires them by its own clock; in a cluster that is another member's, so late by both clocks is late
        now = min(Instant.now(), await server_now(self._connection, self._stream))
        removed = 0
        async for message in self._messages(subjects.DELAY_STREAM, subjects.schedules_of(self._queue)):
            if is_overdue(message, now, self._overdue_ns):
                removed += await self._remove(subjects.DELAY_STREAM, message.revision)
        return removed

    async def _up_to(self, floor: int, stream: str, subject: str) -> int:
        """Remove the messages with this subject (wildcards allowed) up to this sequence: one by one, by no purge.

        A purge of a part makes the server forget what others of it are on their way: see `ajc.stored_message`.
        """
        removed = 0
        async for message in self._messages(stream, subject):
            if message.revision > floor:
                break
            removed += await self._remove(stream, message.revision)
        return removed

    async def _messages(self, stream: str, subject: str) -> AsyncIterator[StoredMessage]:
        sequence = 0
        for _ in range(_MOST):
            try:
                message = await next_message(self._connection, stream, subject, sequence + 1, timeout=_READ_SECONDS)
            except NotFound:
                return
            sequence = message.revision
            yield message

    async def _remove(self, stream: str, sequence: int) -> int:
        try:
            return int(await delete_message(self._connection, stream, sequence, timeout=_READ_SECONDS))
        except (NotFound, StoreError):
            return 0  # gone meanwhile, or refused: the next look finds it again

    async def _api(self, subject: str, query: Any = None) -> dict[str, Any]:
        return await self._connection.api(subject, query, timeout=_READ_SECONDS)


def is_overdue(message: StoredMessage, now: Instant, overdue_ns: int = OVERDUE_NS) -> bool:
    """Tell whether this stored schedule should have fired long ago."""
    try:
        when = (parse_headers(message.headers).get("Nats-Schedule") if message.headers else None) or ""
        return when.startswith("@at ") and now - Instant.parse(when[4:]) > overdue_ns
    except (MalformedHeaders, MalformedInstant):
        return False
