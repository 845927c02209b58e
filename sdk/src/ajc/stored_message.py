"""A stream's messages as its server has them: read one at a time from the leader, in batches from any copy; let go.

The one place that knows how JetStream writes a stored message down, for the SDK and the bridge alike.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from ajc.connection import Connection
from ajc.errors import NoResponders, NotFound, StoreError
from ajc.instant import Instant
from ajc.store_errors import NO_MESSAGE, NO_SEQUENCE

ANSWER_SECONDS: Final = 5.0
PAGE: Final = 256
PAGE_BYTES: Final = 4 << 20
"""A page of large messages ends here: the next one has the rest."""

_STREAM: Final = b"\r\nNats-Stream: "
_SUBJECT: Final = b"\r\nNats-Subject: "
_SEQUENCE: Final = b"\r\nNats-Sequence: "
_TIME_STAMP: Final = b"\r\nNats-Time-Stamp: "
_PENDING: Final = b"\r\nNats-Num-Pending: "
_END: Final = b"\r\n\r\n"
_usual_end = re.compile(
    _STREAM + rb"[^\r]*" + _SUBJECT + rb"([^\r]*)" + _SEQUENCE + rb"([0-9]+)" + _TIME_STAMP + rb"([^\r]*)\r\n"
).match
"""What the server of today writes last but for how many follow."""


class StoredMessage(msgspec.Struct, frozen=True):
    """One message of a stream: `revision` is its sequence, `headers` its raw block, `stored_at` by the server's clock.

    What came in a batch has the server's own headers behind the message's.
    """

    subject: str
    revision: int
    data: bytes
    headers: bytes | None
    stored_at: Instant

    @property
    def last_token(self) -> str:
        """The end of the subject: of a record, an item or a dead letter the task's id."""
        return self.subject.rpartition(".")[2]


async def last_message(
    connection: Connection, stream: str, subject: str, *, timeout: float = ANSWER_SECONDS
) -> StoredMessage:
    """Return the last message of a subject, from the stream's leader.

    Raises `NotFound` (its `code` tells whether the message or the stream), `StoreError` and `Unavailable`; so do the
    next two.
    """
    return await _get(connection, stream, {"last_by_subj": subject}, timeout)


async def message_at(
    connection: Connection, stream: str, sequence: int, *, timeout: float = ANSWER_SECONDS
) -> StoredMessage:
    """Return the message with this sequence."""
    return await _get(connection, stream, {"seq": sequence}, timeout)


async def next_message(
    connection: Connection, stream: str, subject: str, sequence: int, *, timeout: float = ANSWER_SECONDS
) -> StoredMessage:
    """Return the first message with this subject (wildcards allowed) from this sequence on."""
    return await _get(connection, stream, {"seq": sequence, "next_by_subj": subject}, timeout)


async def _get(connection: Connection, stream: str, query: dict[str, Any], timeout: float) -> StoredMessage:
    message = (await connection.api(f"STREAM.MSG.GET.{stream}", query, timeout=timeout))["message"]
    return StoredMessage(
        subject=message["subject"],
        revision=int(message["seq"]),
        data=b64decode(message.get("data") or ""),
        headers=b64decode(message["hdrs"]) if message.get("hdrs") else None,
        stored_at=Instant.parse(message["time"]),
    )


async def next_page(
    connection: Connection,
    stream: str,
    subject: str,
    sequence: int,
    most: int = PAGE,
    *,
    timeout: float = ANSWER_SECONDS,
) -> list[StoredMessage]:
    """Return up to `most` messages with this subject from this sequence on, and about 4 MB, in one request.

    Any copy of the stream may answer. Raises `NoResponders` for a stream that is not there or has no direct reads, and
    `Unavailable`.
    """
    query = {"batch": most, "max_bytes": PAGE_BYTES, "seq": sequence, "next_by_subj": subject}
    answers = await connection.request_many(
        connection.api_subject(f"DIRECT.GET.{stream}"), msgspec.json.encode(query), timeout=timeout
    )
    page = []
    for answer in answers:
        subject, revision, stored, _ = read_direct_headers(answer.headers or b"")
        page.append(StoredMessage(subject, revision, answer.body, answer.headers, Instant.parse(stored)))
    return page


async def stored_messages(connection: Connection, stream: str, subject: str) -> AsyncIterator[StoredMessage]:
    """Yield the stream's messages with this subject (wildcards allowed), the oldest first, in batches.

    What is stored while this runs may or may not be seen. A stream without direct reads (one that the Go
    implementation made) is read message by message. Raises `NotFound` for a stream that does not exist, and
    `Unavailable`.
    """
    sequence = 1
    while True:
        try:
            page = await next_page(connection, stream, subject, sequence)
        except NoResponders:
            async for message in _one_by_one(connection, stream, subject, sequence):
                yield message
            return
        for message in page:
            yield message
        if not page or _last_value(page[-1].headers or b"", _PENDING) == b"0":
            return
        sequence = page[-1].revision + 1


async def _one_by_one(connection: Connection, stream: str, subject: str, sequence: int) -> AsyncIterator[StoredMessage]:
    while True:
        try:
            message = await next_message(connection, stream, subject, sequence)
        except NotFound as error:
            if error.code != NO_MESSAGE:
                raise NotFound("stream", stream, code=error.code) from None
            return
        yield message
        sequence = message.revision + 1


async def delete_message(
    connection: Connection, stream: str, sequence: int, *, timeout: float = ANSWER_SECONDS
) -> bool:
    """Remove the message with this sequence, and tell whether it was there still.

    Of a stream with one message a subject that means: nobody has written the subject since. Raises `NotFound` for a
    stream that does not exist, `StoreError` when it is refused, and `Unavailable`.
    """
    try:
        await connection.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True}, timeout=timeout)
    except NotFound as error:
        if error.code not in (NO_MESSAGE, NO_SEQUENCE):
            raise
        return False
    except StoreError:
        # a refusal without a code of its own may mean that it is gone already
        try:
            await message_at(connection, stream, sequence, timeout=timeout)
        except NotFound:
            return False
        raise
    return True


async def delete_last(connection: Connection, stream: str, subject: str, *, timeout: float = ANSWER_SECONDS) -> bool:
    """Remove the last message of a subject (wildcards allowed), and tell whether there was one. A missing stream: none.

    This, and no purge, for one item of a queue while others are leased: nats-server (2.15.1) moves a consumer's floor
    when a part of what it is for is purged, and with the next ack forgets leased items below it; their leases end, and
    they are never delivered again. Raises `StoreError` and `Unavailable`.
    """
    try:
        found = await last_message(connection, stream, subject, timeout=timeout)
        return await delete_message(connection, stream, found.revision, timeout=timeout)
    except NotFound:
        return False


def read_direct_headers(block: bytes) -> tuple[str, int, str, bytes]:
    """Return subject, sequence and time (RFC 3339) of a message that a direct get answered with, and its own headers.

    The server writes these headers itself, behind the stored message's own, so the last of each name counts. Raises
    `ValueError` or `MalformedInstant` for a block without them.
    """
    at = block.rfind(_STREAM)
    usual = _usual_end(block, at) if at >= 0 else None
    if usual is not None:
        subject, sequence, time = usual.groups()
        return subject.decode("utf-8", "replace"), int(sequence), time.decode("utf-8", "replace"), block[:at] + _END
    # another order than the server's of today
    stored = _last_value(block, _TIME_STAMP).decode("utf-8", "replace")
    Instant.parse(stored)  # refused here, not where it is used
    return (
        _last_value(block, _SUBJECT).decode("utf-8", "replace"),
        int(_last_value(block, _SEQUENCE)),
        stored,
        block,
    )


def _last_value(block: bytes, name: bytes) -> bytes:
    start = block.rfind(name)
    if start < 0:
        return b"0"
    start += len(name)
    return block[start : block.find(b"\r\n", start)]
