"""Dead letters on JetStream: one message per queue and task in CHORIA_AJ_DLQ."""

from __future__ import annotations

from typing import Final

from ajc import subjects
from ajc.connection import Connection
from ajc.errors import NotFound, StoreError, TooLarge, Unavailable
from ajc.exchange import clean_text
from ajc.headers import encode_headers
from ajc.store_errors import HEADERS_TOO_LARGE, MESSAGE_TOO_LARGE
from ajc.subjects import LONGEST_NAME
from ajc_bridge.decision.transition import DeadLetter

_TOO_LARGE: Final = frozenset({MESSAGE_TOO_LARGE, HEADERS_TOO_LARGE})
_SHORT: Final = 80


class JetStreamDeadLetters:
    """`ports.DeadLetters` on the stream CHORIA_AJ_DLQ."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def publish(self, letter: DeadLetter, body: bytes) -> None:
        """Store the letter; a body that does not fit is left out (its record is stored anyway), an error is cut.

        Raises `TooLarge` when the stream takes not even that.
        """
        subject = subjects.dlq_subject(letter.queue, letter.task_id)
        full = _headers(letter, clean_text(letter.error))
        short = _headers(letter, letter.error[:_SHORT])
        for headers, content in ((full, body), (full, b"")):
            try:
                return await self._stored(subject, content, headers)
            except TooLarge:
                continue
        return await self._stored(subject, b"", short)

    async def _stored(self, subject: str, body: bytes, headers: bytes) -> None:
        try:
            await self._connection.stored(subject, body, headers=headers)
        except (NotFound, StoreError) as error:
            if error.code in _TOO_LARGE:
                raise TooLarge("dead letter", len(headers) + len(body), self._connection.max_payload) from error
            raise Unavailable(f"the dead-letter stream refused a letter: {error}") from error


def _headers(letter: DeadLetter, error: str) -> bytes:
    # a foreign record may hold texts of any length, and the server takes 64 KiB of headers
    return encode_headers(
        [
            ("AJ-Dlq-Reason", letter.reason),
            ("AJ-Dlq-Error", error),
            ("AJ-Dlq-Tries", str(letter.tries)),
            ("AJ-Dlq-Time", letter.time.rfc3339()),
            ("AJ-Task-Id", letter.task_id[:LONGEST_NAME]),
            ("AJ-Task-Type", letter.type[:LONGEST_NAME]),
            ("AJ-Queue", letter.queue),
        ]
    )
