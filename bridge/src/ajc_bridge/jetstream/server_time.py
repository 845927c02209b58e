"""The server's clock, by which it fires schedules and stamps records: this machine's may be ahead of it, or behind."""

from __future__ import annotations

from ajc.connection import Connection
from ajc.errors import MalformedInstant, NotFound, StoreError, Unavailable
from ajc.instant import Instant

_SECONDS = 5.0


async def server_now(connection: Connection, stream: str) -> Instant:
    """Return the server's time, as it says with its answer about this stream; ours where it does not say.

    Raises `Unavailable`.
    """
    try:
        info = await connection.api(f"STREAM.INFO.{stream}", timeout=_SECONDS)
        return Instant.parse(info["ts"])
    except (NotFound, KeyError, MalformedInstant):
        return Instant.now()
    except StoreError as error:
        raise Unavailable(str(error)) from error
