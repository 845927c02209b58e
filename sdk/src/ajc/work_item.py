"""The queue entry: which task is to be run. All else about it is in the task's record."""

from __future__ import annotations

from typing import Self

import msgspec
from msgspec import Struct

from ajc import record
from ajc.errors import MalformedItem

MOST_WAITS = 1_000_000  # far beyond where every wait has stopped growing


class _Read(Struct):
    job: str | None = None
    kind: int | None = None
    waits: int | None = None


_read = msgspec.json.Decoder(_Read)
_encode = msgspec.json.Encoder().encode


class WorkItem(Struct, frozen=True):
    """`task_id` (JSON key `job`), `kind` (0, looked at by nobody), `waits`: how often in a row its task was parked.

    `waits` is ours and left out when 0; Go ignores it.
    """

    task_id: str
    kind: int = 0
    waits: int = 0

    def encode(self) -> bytes:
        """As Go writes it, with our key after its two."""
        try:
            job = _encode(self.task_id)
        except UnicodeEncodeError:
            job = _encode(record.without_surrogates(self.task_id))
        if self.waits:
            return b'{"kind":%d,"job":%b,"waits":%d}' % (self.kind, job, self.waits)
        return b'{"kind":%d,"job":%b}' % (self.kind, job)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one; MalformedItem when it names no task. The id is not checked: Go believes whatever the body says."""
        try:
            read = _read.decode(data)
        except record.READ_ERRORS:
            read = _read_slowly(data)
        job, kind, waits = read.job, read.kind or 0, read.waits or 0
        if not job:
            raise MalformedItem("job", "names no task")
        if not -(2**63) <= kind < 2**63:
            raise MalformedItem("kind", "is out of range")
        return cls(job, kind, min(max(waits, 0), MOST_WAITS))


def _read_slowly(data: bytes) -> _Read:
    """Mend texts and take a `waits` that is none of ours for absent."""
    try:
        found = record.members(record.mended(data))
        return _read.decode(record.joined({key: found[key] for key in ("job", "kind") if key in found}))
    except record.READ_ERRORS as error:
        raise MalformedItem(*record.fault(error)) from None
