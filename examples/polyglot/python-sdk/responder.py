"""A responder with the SDK. Replace the handlers by yours, and start it in this folder: python -m ajc responder:app"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import msgspec

import ajc

app = ajc.Responder(name="polyglot-python-sdk", version="1.0.0")
FAMILY = os.environ.get("AJC_FAMILY", "conform")


class Email(msgspec.Struct):
    to: str
    works_on_try: int = 1  # a mail server that is down at first


class Report(msgspec.Struct):
    seconds: float


@app.handler("greet")
async def greet(attempt: ajc.Attempt) -> dict[str, str]:
    return {"greeting": f"hello {attempt.payload['name']}"}


@app.handler("email:new", concurrency=50)
async def send(attempt: ajc.Attempt, email: Email) -> dict[str, str]:
    if "@" not in email.to:
        raise ajc.Terminate(f"no address: {email.to!r}")  # trying again would not help
    if attempt.try_number < email.works_on_try:
        raise ConnectionError("the mail server is down")  # any exception: tried again by the queue's policy
    return {"sent": email.to}


@app.handler("report:render", concurrency=50)
async def render(attempt: ajc.Attempt, report: Report) -> dict[str, int]:
    for tenth in range(10):
        await asyncio.sleep(report.seconds / 10)  # cancelled when the deadline passes, or the task is cancelled
        await attempt.progress(10 * (tenth + 1), "rendered")
    return {"pages": 10}


# The scripted tasks of the conformance kit; yours needs none of them.
@app.handler(f"{FAMILY}:echo")
async def echo(payload: bytes) -> bytes:
    return payload


@app.handler(f"{FAMILY}:fail")
async def fail(payload: bytes) -> None:
    raise ajc.Retry(payload.decode())


@app.handler(f"{FAMILY}:crash")
async def crash(payload: bytes) -> None:
    raise RuntimeError(payload.decode())


@app.handler(f"{FAMILY}:terminate")
async def terminate(payload: bytes) -> None:
    raise ajc.Terminate(payload.decode())


@app.handler(f"{FAMILY}:busy")
async def busy(payload: bytes) -> None:
    raise ajc.Busy(payload.decode())


@app.handler(f"{FAMILY}:later")
async def later(payload: bytes) -> None:
    raise ajc.Retry("later", after=timedelta(milliseconds=int(payload)))


@app.handler(f"{FAMILY}:about")
async def about(attempt: ajc.Attempt) -> dict[str, Any]:
    task = attempt.task
    told = {"id": task.id, "type": task.type, "queue": task.queue}
    return told | {"try": attempt.try_number, "max_tries": attempt.max_tries}


@app.handler(f"{FAMILY}:slow")
def slow(attempt: ajc.Attempt, payload: bytes) -> bytes:  # a plain def runs in a thread, and may block
    attempt.wait_cancelled(int(payload) / 1000)
    return payload


@app.handler(f"{FAMILY}:progress")
async def progress(attempt: ajc.Attempt) -> bytes:
    for quarter in range(1, 5):
        await attempt.progress(25 * quarter, f"quarter {quarter} of 4")
    return b"done"


@app.handler(f"{FAMILY}:trace")
async def trace(attempt: ajc.Attempt) -> bytes:
    return (attempt.traceparent or "").encode()
