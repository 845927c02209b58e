"""Dead letters on JetStream: one message per queue and task in CHORIA_AJ_DLQ."""

from __future__ import annotations

from ajc import subjects
from ajc.connection import Connection
from ajc.errors import NotFound, StoreError, TooLarge, Unavailable
from ajc.headers import encode_headers
from ajc_bridge.decision.transition import DeadLetter


class JetStreamDeadLetters:
    """`ports.DeadLetters` on the stream CHORIA_AJ_DLQ."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def publish(self, letter: DeadLetter, body: bytes) -> None:
        """Store the letter; a body that does not fit beside its headers is left out (its record is stored anyway)."""
        pairs = [
            ("AJ-Dlq-Reason", letter.reason),
            ("AJ-Dlq-Error", letter.error),
            ("AJ-Dlq-Tries", str(letter.tries)),
            ("AJ-Dlq-Time", letter.time.rfc3339()),
            ("AJ-Task-Id", letter.task_id),
            ("AJ-Task-Type", letter.type),
            ("AJ-Queue", letter.queue),
        ]
        headers = encode_headers(pairs)
        subject = subjects.dlq_subject(letter.queue, letter.task_id)
        try:
            try:
                await self._connection.stored(subject, body, headers=headers)
            except TooLarge:
                await self._connection.stored(subject, b"", headers=headers)
        except (NotFound, StoreError) as error:
            raise Unavailable(f"the dead-letter stream refused a letter: {error}") from error
