"""A responder with the SDK. Start it in this folder: python -m ajc responder:app"""

from __future__ import annotations

import asyncio

import msgspec

import ajc

app = ajc.Responder(name="polyglot-python-sdk")


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
        await asyncio.sleep(report.seconds / 10)  # cancelled when the deadline passes
        await attempt.progress(10 * (tenth + 1), "rendered")
    return {"pages": 10}
