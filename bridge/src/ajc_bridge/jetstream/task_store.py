"""The task store on JetStream: batched direct reads, saves by revision.

All loads asked for within one turn of the event loop leave as one batched direct get. A copy that lags may answer it;
whoever must know asks with `leader=True`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

import msgspec

from ajc import subjects
from ajc.connection import Connection, read_sequence
from ajc.errors import (
    Conflict,
    InvalidValue,
    MalformedTask,
    NotFound,
    NotPermitted,
    StoreError,
    TooLarge,
    Unavailable,
)
from ajc.failpoint import reach
from ajc.instant import Instant
from ajc.store_errors import MESSAGE_TOO_LARGE, NO_MESSAGE, TTL_DISABLED
from ajc.stored_message import delete_message, last_message, read_direct_headers
from ajc.task import Task
from ajc.task_records import with_context
from ajc_bridge.decision.admission import Record

_MAX_BATCH: Final = 500
_MAX_BYTES: Final = 8 << 20
"""Of one answer: the server cuts off who has 64 MiB to read (its `max_pending`), and several are under way."""
_READ_SECONDS: Final = 5.0
_SAVE_SECONDS: Final = 5.0
_STATUS: Final = b"NATS/1.0 "
_NONE_LEFT: Final = b"\r\nNats-Num-Pending: 0\r\n"
_TTL_NS: Final = 1_000_000_000
_KEPT_SECONDS: Final = 60.0
_HEADERS_ROOM: Final = 128
_SMALL: Final = 4_096
"""Bytes of a record for which the connection is not asked whether it is at a server that takes less just now."""


class _Batch:
    """One batched read under way: what is still missing."""

    __slots__ = ("deadline", "missing")

    def __init__(self, missing: dict[str, list[asyncio.Future[Record | None]]], deadline: float) -> None:
        self.missing = missing
        self.deadline = deadline


class JetStreamTaskStore:
    """`ports.TaskStore` on CHORIA_AJ_TASKS; `max_message` is the stream's own limit in bytes, -1 for none."""

    def __init__(self, connection: Connection, *, max_message: int = -1) -> None:
        self._connection = connection
        self._max_message = max_message
        self._limit = self._read_limit()
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[str, list[asyncio.Future[Record | None]]] = {}
        self._batches: dict[bytes, _Batch] = {}
        self._inbox = ""
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._kept_until = 0.0
        self._get = connection.api_subject(f"DIRECT.GET.{subjects.TASKS_STREAM}")

    async def start(self) -> None:
        """Open the inbox of batched reads."""
        self._inbox = f"{self._connection.inbox_prefix}.get.{id(self):x}."
        self._connection.refused.tell(self._refused)
        await self._connection.subscribe_raw(f"{self._inbox}*", self._arrived)

    def reconnected(self) -> None:
        """Take up the limits of the server at the other end, which may be another one."""
        self._limit = self._read_limit()

    def _read_limit(self) -> int:
        limit = self._connection.max_payload
        return (min(limit, self._max_message) if self._max_message > 0 else limit) - _HEADERS_ROOM

    def connection_lost(self) -> None:
        """Fail every read under way: its answer was lost with the connection."""
        for token in list(self._batches):
            self._fail(token, Unavailable("the connection broke while a task was read"))

    def load(self, task_id: str, *, leader: bool = False) -> Awaitable[Record | None]:
        """Return the record; see `ports.TaskStore.load`."""
        if leader:
            return self._load_from_leader(task_id)
        future: asyncio.Future[Record | None] = self._loop.create_future()
        if not self._wanted:
            self._loop.call_soon(self._send_wanted)
        self._wanted.setdefault(task_id, []).append(future)
        return future

    def _send_wanted(self) -> None:
        wanted, self._wanted = self._wanted, {}
        ids = list(wanted)
        for start in range(0, len(ids), _MAX_BATCH):
            self._send_batch(
                {subjects.task_subject(task_id): wanted[task_id] for task_id in ids[start : start + _MAX_BATCH]}
            )

    def _send_batch(self, missing: dict[str, list[asyncio.Future[Record | None]]]) -> None:
        self._next += 1
        inbox = f"{self._inbox}{self._next:x}"
        token = inbox.encode()
        self._batches[token] = _Batch(missing, self._loop.time() + _READ_SECONDS)
        body = msgspec.json.encode({"multi_last": list(missing), "max_bytes": _MAX_BYTES})
        try:
            self._connection.publish(self._get, body, reply=inbox)
        except (Unavailable, TooLarge) as error:
            self._fail(token, Unavailable(str(error)))
            return
        if self._timer is None:
            self._timer = self._loop.call_later(0.1, self._sweep)

    def _arrived(self, inbox: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        batch = self._batches.get(inbox)
        if batch is None or headers is None:
            return
        if headers.startswith(_STATUS):
            self._batch_ended(
                inbox, batch, headers[9:12], more=b"Nats-Num-Pending:" in headers and _NONE_LEFT not in headers
            )
            return
        subject, revision, stored, own_headers = read_direct_headers(headers)
        futures = batch.missing.pop(subject, None)
        if futures is not None:
            record = make_record(subjects.task_of_subject(subject), body, revision, stored, own_headers)
            for future in futures:
                if not future.done():
                    future.set_result(record)
        if not batch.missing:
            del self._batches[inbox]

    def _batch_ended(self, token: bytes, batch: _Batch, status: bytes, *, more: bool) -> None:
        if status == b"204" and more:
            del self._batches[token]
            self._send_batch(batch.missing)  # it was full; of these there are some
        elif status in (b"204", b"404"):
            # the end of the batch: what has not come is not there
            del self._batches[token]
            for futures in batch.missing.values():
                for future in futures:
                    if not future.done():
                        future.set_result(None)
        elif status == b"503":
            self._fail(token, Unavailable("nobody answers direct reads of the task store"))
        else:
            self._fail(token, Unavailable(f"a direct read of the task store was refused with {status.decode()}"))

    def _refused(self, subject: str) -> None:
        """Fail every read under way when it is told that reads are refused."""
        if subject == self._get.lower():
            for token in list(self._batches):
                self._fail(token, NotPermitted(self._get))

    def _fail(self, token: bytes, error: Unavailable) -> None:
        batch = self._batches.pop(token, None)
        if batch is None:
            return
        for futures in batch.missing.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # a caller that was cancelled meanwhile never looks

    def _sweep(self) -> None:
        now = self._loop.time()
        for token, batch in list(self._batches.items()):
            if batch.deadline <= now:
                self._fail(token, Unavailable("no answer in time to a read of the task store"))
        self._timer = self._loop.call_later(0.1, self._sweep) if self._batches else None

    async def _load_from_leader(self, task_id: str) -> Record | None:
        subject = subjects.task_subject(task_id)
        try:
            message = await last_message(self._connection, subjects.TASKS_STREAM, subject, timeout=_READ_SECONDS)
        except NotFound as error:
            if error.code == NO_MESSAGE:
                return None
            raise Unavailable(f"the task store cannot be read: {error}") from error
        except StoreError as error:
            raise Unavailable(f"the task store cannot be read: {error}") from error
        return make_record(task_id, message.data, message.revision, message.stored_at, message.headers)

    def save(self, task_id: str, body: bytes, revision: int, *, ttl_ns: int | None = None) -> Awaitable[int]:
        """Store the record by revision; see `ports.TaskStore.save`.

        Once the stream has refused a time to live, none is asked for during a minute: one refusal says it for all.
        """
        size = len(body)
        if size > self._limit or (size > _SMALL and size > self._read_limit()):
            raise TooLarge("record", size, self._read_limit())
        subject = subjects.task_subject(task_id)
        if ttl_ns is None or self._loop.time() < self._kept_until:
            headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\n\r\n" % revision
        else:
            seconds = max(1, -(-ttl_ns // _TTL_NS))
            headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %d\r\nNats-TTL: %ds\r\n\r\n" % (
                revision,
                seconds,
            )
        inbox, future = self._connection.expect(subject, _SAVE_SECONDS, self._read_saved)
        try:
            self._connection.send(
                b"HPUB %b %b %d %d\r\n%b%b\r\n"
                % (subject.encode(), inbox, len(headers), len(headers) + size, headers, body)
            )
        except BaseException:
            self._connection.forget(inbox)
            raise
        return future

    def _read_saved(self, body: bytes, headers: bytes | None) -> int:
        try:
            return read_sequence(body, headers)
        except (NotFound, StoreError) as error:
            if isinstance(error, StoreError) and error.code == MESSAGE_TOO_LARGE:
                raise TooLarge("record", 0, self.limit) from error
            if isinstance(error, StoreError) and error.code == TTL_DISABLED:
                self._kept_until = self._loop.time() + _KEPT_SECONDS
                raise InvalidValue(
                    "retention", subjects.TASKS_STREAM, "the task store has no allow_msg_ttl: records are kept"
                ) from error
            raise Unavailable(f"the task store refused a save: {error}") from error

    @property
    def limit(self) -> int:
        """The most bytes of a record: the server's limit, or the stream's own; see `ports.TaskStore.limit`."""
        return self._limit

    async def discard(self, task_id: str, revision: int) -> None:
        """Remove the record at that revision; see `ports.TaskStore.discard`."""
        reach("settle.save_sent")
        try:
            if await delete_message(self._connection, subjects.TASKS_STREAM, revision, timeout=_SAVE_SECONDS):
                return
        except (NotFound, StoreError) as error:
            raise Unavailable(f"the task store refused to let a record go: {error}") from error
        if await self._load_from_leader(task_id) is not None:
            raise Conflict(f"task {task_id}")  # saved by somebody else since


def make_record(task_id: str, body: bytes, revision: int, stored: Instant | str, headers: bytes | None) -> Record:
    """Decode a stored record; one that is no task is a record all the same, and says why."""
    try:
        return Record(task_id, body, revision, stored, with_context(Task.decode(body), headers))
    except MalformedTask as error:
        return Record(task_id, body, revision, stored, task=None, malformed=str(error))
