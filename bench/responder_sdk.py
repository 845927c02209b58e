"""The SDK's responder with a handler that does nothing: python bench/responder_sdk.py URL TYPE"""

from __future__ import annotations

import gc
import sys

import ajc

app = ajc.Responder(sys.argv[1], prefix="bench.answer")


@app.handler(sys.argv[2], concurrency=1_000)
async def answer(attempt: ajc.Attempt) -> bytes:
    del attempt
    return b"ok"


if __name__ == "__main__":
    gc.freeze()
    app.run()
