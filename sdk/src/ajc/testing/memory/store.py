"""The task store, its scan, and the dead letters, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from ajc.errors import Conflict, InvalidValue, MalformedTask, TooLarge
from ajc.instant import Instant
from ajc.task import Task
from ajc.testing.memory.line import Line
from ajc.testing.memory.values import AnyLetter

R = TypeVar("R")

_SECOND: Final = 1_000_000_000


class _Stored(NamedTuple):
    """One revision of one record."""

    data: bytes
    revision: int
    at: Instant
    expires: bool = False


class MemoryTaskStore(Generic[R]):
    """Records by task id; revisions count up over all of them, as a stream's sequence does.

    `lagging` is what a copy that lags answers for a task (None: it knows none): readers of any copy get that, those
    who ask the leader do not.
    """

    def __init__(self, line: Line, now: Callable[[], Instant], make_record: Callable[..., R], limit: int) -> None:
        self.limit = limit
        self.lagging: dict[str, R | None] = {}
        self.allow_ttl = True
        self._line = line
        self._now = now
        self._make = make_record
        self._records: dict[str, _Stored] = {}
        self._revision = 0

    async def load(self, task_id: str, *, leader: bool = False) -> R | None:
        """Return the record, None when there is none."""
        lost = await self._line.cross("store.load_leader" if leader else "store.load", task_id)
        if lost is not None:
            raise lost
        if not leader and task_id in self.lagging:
            return self.lagging[task_id]
        return self.get(task_id)

    async def save(self, task_id: str, body: bytes, revision: int, *, ttl_ns: int | None = None) -> int:
        """Store by revision; raises `TooLarge` before anything is sent, `Conflict` and `InvalidValue`."""
        if len(body) > self.limit:
            raise TooLarge("record", len(body), self.limit)
        lost = await self._line.cross("store.save", task_id)
        if ttl_ns is not None and not self.allow_ttl:
            raise InvalidValue("retention", ttl_ns, "the store keeps its records")
        found = self._records.get(task_id)
        if revision != (found.revision if found is not None else 0):
            raise Conflict(f"task {task_id}")
        saved = self.put(task_id, body, ttl_ns=ttl_ns)
        if lost is not None:
            raise lost
        return saved

    async def discard(self, task_id: str, revision: int) -> None:
        """Remove that revision; `Conflict` when the record has another one by now."""
        lost = await self._line.cross("store.discard", task_id)
        found = self._records.get(task_id)
        if found is not None:
            if found.revision != revision:
                raise Conflict(f"task {task_id}")
            del self._records[task_id]
        if lost is not None:
            raise lost

    def put(self, task_id: str, body: bytes, *, ttl_ns: int | None = None) -> int:
        """Store as somebody else would, whatever is there."""
        self._revision += 1
        stored = self._records[task_id] = _Stored(body, self._revision, self._now(), ttl_ns is not None)
        if ttl_ns is not None:
            seconds = max(1, -(-ttl_ns // _SECOND))  # the server counts whole seconds
            asyncio.get_running_loop().call_later(seconds, self._expire, task_id, stored)
        return self._revision

    def get(self, task_id: str) -> R | None:
        """Return the record as it is now, without any call."""
        stored = self._records.get(task_id)
        return None if stored is None else self._record(task_id, stored)

    def revision(self, task_id: str) -> int:
        """Return the record's revision as it is now, 0 when there is none."""
        stored = self._records.get(task_id)
        return 0 if stored is None else stored.revision

    def remove(self, task_id: str) -> None:
        """Remove the record as somebody else would."""
        self._records.pop(task_id, None)

    def since(self, revision: int, most: int) -> list[tuple[int, R]]:
        """Return records saved after that revision, oldest first."""
        later = sorted(
            (stored.revision, task_id) for task_id, stored in self._records.items() if stored.revision > revision
        )
        return [(number, self._record(task_id, self._records[task_id])) for number, task_id in later[:most]]

    def _record(self, task_id: str, stored: _Stored) -> R:
        task, malformed = None, ""
        try:
            task = Task.decode(stored.data)
        except MalformedTask as error:
            malformed = str(error)
        return self._make(
            task_id=task_id,
            data=stored.data,
            revision=stored.revision,
            stored=stored.at,
            task=task,
            malformed=malformed,
            expires=stored.expires,
        )

    def _expire(self, task_id: str, stored: _Stored) -> None:
        if self._records.get(task_id) is stored:
            del self._records[task_id]


class MemoryRecordScan(Generic[R]):
    """Reads the store's records in the order of their last change."""

    def __init__(self, line: Line, store: MemoryTaskStore[R]) -> None:
        self._line = line
        self._store = store
        self._after = 0

    def rewind(self) -> None:
        """Begin anew."""
        self._after = 0

    async def next(self, most: int) -> list[R]:
        """Return up to `most` records behind those returned before."""
        lost = await self._line.cross("scan.next", "")
        if lost is not None:
            raise lost
        found = self._store.since(self._after, most)
        if found:
            self._after = found[-1][0]
        return [record for _, record in found]


class Letter(NamedTuple):
    """A dead letter as stored: `times` is how often it was written."""

    letter: AnyLetter
    body: bytes
    times: int


class MemoryDeadLetters:
    """Letters by queue and task; a body over `limit` is left out, as a server's limit would have it."""

    def __init__(self, line: Line, limit: int) -> None:
        self.limit = limit
        self.stored: dict[tuple[str, str], Letter] = {}
        self._line = line

    async def publish(self, letter: AnyLetter, body: bytes) -> None:
        """Store the letter in place of an earlier one."""
        lost = await self._line.cross("letters.publish", letter.task_id)
        key = (letter.queue, letter.task_id)
        before = self.stored.get(key)
        kept = body if len(body) <= self.limit else b""
        self.stored[key] = Letter(letter, kept, before.times + 1 if before is not None else 1)
        if lost is not None:
            raise lost
