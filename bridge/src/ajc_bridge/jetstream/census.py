"""What JetStream will not deliver again: items at `max_deliver`, and tasks whose item was evicted or never written.

An item that reached its delivery cap stays in the stream, invisible. The server says so once, in an advisory; the
sweep finds those whose advisory nobody heard: there are `messages - pending - ack pending` of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ajc import subjects
from ajc.connection import Connection, Message, Subscription
from ajc.errors import AjcError, MalformedItem, NotFound, NotPermitted, StoreError, Unavailable
from ajc.instant import Instant
from ajc.queue import QueueInfo
from ajc.stored_message import StoredMessage, delete_message, last_message, message_at, next_message, next_page
from ajc.topology import read_queue
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Record
from ajc_bridge.jetstream.remains import is_overdue
from ajc_bridge.jetstream.server_time import server_now
from ajc_bridge.jetstream.sightings import Sightings
from ajc_bridge.jetstream.task_store import JetStreamTaskStore, make_record
from ajc_bridge.ports import Stranded

_LOOKED_AT: Final = 1_000
_READ_SECONDS: Final = 5.0
_TTL: Final = b"\r\nNats-TTL:"


class JetStreamCensus:
    """`ports.Census` of one queue."""

    def __init__(self, connection: Connection, store: JetStreamTaskStore, queue: str) -> None:
        self._connection = connection
        self._store = store
        self._queue = queue
        self._stream = subjects.queue_stream(queue)
        self._sightings = Sightings()
        self._now = asyncio.get_running_loop().time

    async def listen(self, exhausted: Callable[[int], None]) -> Subscription:
        """Hand the sequence of each item that the server gives up to `exhausted`."""

        def heard(message: Message) -> None:
            try:
                sequence = msgspec.json.decode(message.body, type=_Advisory).stream_seq
            except msgspec.DecodeError:
                return  # not from a server
            exhausted(sequence)

        subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{self._stream}.{subjects.CONSUMER}"
        return await self._connection.subscribe(subject, heard)

    async def exhausted(self, sequence: int) -> Stranded | None:
        """Read one item; see `ports.Census.exhausted`. An advisory is believed only while an item is stranded."""
        info = await self._info()
        if info is None or not info.stranded:
            return None
        return await self._item(message_at(self._connection, self._stream, sequence, timeout=_READ_SECONDS))

    async def stranded(self) -> list[Stranded]:
        """Find what nobody was told of; see `ports.Census.stranded`.

        The server does not say which items they are. While nobody has an item, all that were delivered and are there
        still are stranded; else `Sightings` tells them from those that somebody has.
        """
        info = await self._info()
        if info is None or info.max_deliver <= 0 or not info.stranded:
            return []
        consumer = await self._api(f"CONSUMER.INFO.{self._stream}.{subjects.CONSUMER}", None)
        last = int(consumer["delivered"]["stream_seq"])
        found: dict[int, Stranded] = {}
        items = subjects.items_of(self._queue)
        sequence = 0
        for _ in range(_LOOKED_AT):
            item = await self._item(
                next_message(self._connection, self._stream, items, sequence + 1, timeout=_READ_SECONDS)
            )
            if item is None or item.sequence > last:
                break
            sequence = item.sequence
            found[sequence] = msgspec.structs.replace(item, revision=await self._revision(item))
        revisions = {sequence: item.revision or 0 for sequence, item in found.items()}
        beyond_doubt = self._sightings.look(self._now(), info.stranded, revisions, info.lease_ns / 1e9)
        if consumer["num_ack_pending"] == 0:
            return list(found.values())
        return [found[sequence] for sequence in sorted(beyond_doubt)]

    async def _info(self) -> QueueInfo | None:
        try:
            return await read_queue(self._connection, self._queue)
        except NotFound:
            return None  # the queue is gone: its lane is told so elsewhere
        except StoreError as error:
            raise Unavailable(str(error)) from error

    async def _revision(self, item: Stranded) -> int:
        try:
            task_id = WorkItem.decode(item.body).task_id
        except MalformedItem:
            return 0
        record = await self._store.load(task_id, leader=True) if subjects.is_id(task_id) else None
        return record.revision if record is not None else 0

    async def forget(self, item: Stranded) -> None:
        """Delete the item, unless its subject holds another one by now, or the queue has none that is stranded."""
        if item.revision is not None:
            info = await self._info()
            if info is None or not info.stranded:
                return
        try:
            await delete_message(self._connection, self._stream, item.sequence, timeout=_READ_SECONDS)
        except NotFound:
            return  # the queue is gone
        except StoreError as error:
            raise Unavailable(str(error)) from error

    async def has_item(self, task_id: str) -> bool:
        """Look in the queue, and in the delay stream; see `ports.Census.has_item`."""
        places = (
            (self._stream, subjects.item_subject(self._queue, task_id)),
            (subjects.DELAY_STREAM, subjects.delay_schedule_subject(self._queue, task_id)),
            (subjects.DELAY_STREAM, subjects.delay_fire_subject(self._queue, task_id)),
            # what was on its way from the delay stream meanwhile is there now
            (self._stream, subjects.item_subject(self._queue, task_id)),
        )
        for stream, subject in places:
            try:
                message = await last_message(self._connection, stream, subject, timeout=_READ_SECONDS)
            except NotFound:
                continue
            except StoreError as error:
                raise Unavailable(str(error)) from error
            # late by our clock, it may only be ahead: the server fires by its own
            if not is_overdue(message, Instant.now()) or not is_overdue(
                message, await server_now(self._connection, self._stream)
            ):
                return True
        return False

    async def _item(self, reading: Awaitable[StoredMessage]) -> Stranded | None:
        try:
            message = await reading
        except NotFound:
            return None
        except StoreError as error:
            raise Unavailable(str(error)) from error
        return Stranded(message.revision, message.last_token, message.data, 1)

    async def _api(self, subject: str, query: Any) -> dict[str, Any]:
        try:
            return await self._connection.api(subject, query, timeout=_READ_SECONDS)
        except StoreError as error:
            raise Unavailable(str(error)) from error


class _Advisory(msgspec.Struct, frozen=True):
    stream_seq: int


class JetStreamRecordScan:
    """`ports.RecordScan` by batched direct gets in the order of sequences."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._after = 0

    def rewind(self) -> None:
        """Begin anew; see `ports.RecordScan.rewind`."""
        self._after = 0

    async def next(self, most: int) -> list[Record]:
        """Read on; see `ports.RecordScan.next`."""
        try:
            page = await next_page(
                self._connection,
                subjects.TASKS_STREAM,
                subjects.TASK_SUBJECTS,
                self._after + 1,
                most,
                timeout=_READ_SECONDS,
            )
        except AjcError as error:
            raise Unavailable(f"the task store cannot be read: {error}") from error
        if page:
            self._after = page[-1].revision
        elif self._after and await self._store_went_back():
            self.rewind()
            return await self.next(most)
        return [
            replace(
                make_record(found.last_token, found.data, found.revision, found.stored_at, found.headers),
                expires=(found.headers or b"").find(_TTL) >= 0,
            )
            for found in page
        ]

    async def _store_went_back(self) -> bool:
        """Tell whether the store's sequences are lower than those read: it was made again, or lost its last writes."""
        try:
            info = await self._connection.api(f"STREAM.INFO.{subjects.TASKS_STREAM}", timeout=_READ_SECONDS)
        except (NotFound, NotPermitted):
            return False  # made again in a moment; or that is not for this user to know
        except AjcError as error:
            raise Unavailable(f"the task store cannot be looked at: {error}") from error
        return int(info["state"]["last_seq"]) < self._after
