"""A responder as people write it, for tests that start and end its process. The environment says where and what."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import ajc

app = ajc.Responder(os.environ.get("RESPONDER_URL"), drain=float(os.environ.get("RESPONDER_DRAIN", "20")))
KIND = os.environ.get("RESPONDER_TYPE", "t")


@app.handler(KIND, concurrency=4)
async def handle(attempt: ajc.Attempt) -> object:
    if attempt.payload == "sleep":
        print("sleeping", flush=True)
        await asyncio.sleep(1)
    if attempt.payload == "hang":
        print("hanging", flush=True)
        await asyncio.Event().wait()
    return {"got": attempt.payload}


@app.handler(f"{KIND}:thread")
def hang(attempt: ajc.Attempt) -> None:
    print("hanging", flush=True)
    threading.Event().wait()


not_an_app = 7

if __name__ == "__main__":
    app.run()
    print("ended", flush=True)
    sys.exit(0)
