"""A responder that decodes and decides nothing, on the SDK's own connection: python bench/responder_bare.py URL TYPE"""

from __future__ import annotations

import asyncio
import gc
import sys

from ajc.connection import Connection
from ajc.context import resolve


async def main() -> None:
    connection = await Connection.open(resolve(sys.argv[1]))

    def answer(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        del subject, body, headers
        connection.send(b"PUB %b 2\r\nok\r\n" % reply)

    await connection.subscribe_raw(f"bench.answer.{sys.argv[2]}", answer, queue="ajc")
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
