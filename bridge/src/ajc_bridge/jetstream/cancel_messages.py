"""What is told on `ajc.cancel.*`: that somebody has cancelled a task."""

from __future__ import annotations

from collections.abc import Callable

from ajc.connection import Connection, Subscription
from ajc.subjects import CANCEL_SUBJECTS, cancelled_id


async def listen_for_cancels(connection: Connection, named: Callable[[str], None]) -> Subscription:
    """Hand the id that each message names to `named`: any token, by anybody. One subscription for all queues."""

    def heard(subject: bytes, _reply: bytes, _body: bytes, _headers: bytes | None) -> None:
        named(cancelled_id(subject))

    return await connection.subscribe_raw(CANCEL_SUBJECTS, heard)
