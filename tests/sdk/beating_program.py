"""A responder whose handlers take their time in three ways, for tests that listen for its beats."""

from __future__ import annotations

import asyncio
import os
import time

import ajc

app = ajc.Responder(os.environ.get("RESPONDER_URL"))
KIND = os.environ.get("RESPONDER_TYPE", "t")


@app.handler(f"{KIND}:waits")
async def waits(payload: float) -> str:
    await asyncio.sleep(payload)
    return "waited"


@app.handler(f"{KIND}:thread")
def thread(payload: float) -> str:
    time.sleep(payload)
    return "slept"


@app.handler(f"{KIND}:blocks")
async def blocks(payload: float) -> str:
    time.sleep(payload)
    return "blocked"


@app.handler(f"{KIND}:computes")
async def computes(payload: float) -> str:
    until = time.monotonic() + payload
    while time.monotonic() < until:
        sum(range(1000))
    return "computed"


@app.handler(f"{KIND}:there")
async def there() -> None: ...
