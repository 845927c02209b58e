"""The SDK's responder, whose handler does nothing, or waits once: python bench/responder_sdk.py URL TYPE [waits]"""

from __future__ import annotations

import asyncio
import gc
import sys

import ajc

app = ajc.Responder(sys.argv[1], prefix="bench.answer")


async def answer(attempt: ajc.Attempt) -> bytes:
    del attempt
    return b"ok"


async def answer_later(attempt: ajc.Attempt) -> bytes:
    del attempt
    await asyncio.sleep(0)
    return b"ok"


app.handler(sys.argv[2], concurrency=1_000)(answer_later if "waits" in sys.argv else answer)

if __name__ == "__main__":
    gc.freeze()
    app.run()
