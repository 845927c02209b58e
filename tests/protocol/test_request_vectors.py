"""The golden vectors of requests, published as bytes to the SDK's responder on a real server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from documents import cases, data, schema
from sdk_world import connected

import ajc
from ajc.exchange import read_reply

REQUESTS = cases("requests")


def read_by(attempt: ajc.Attempt) -> dict[str, Any]:
    """What a handler sees of its request, in the words of the vectors."""
    payload = attempt.task.payload
    return {
        "id": attempt.task.id,
        "type": attempt.request.type,
        "queue": attempt.request.queue,
        "payload_base64": None if payload is None else base64.b64encode(payload).decode(),
        "try": attempt.try_number,
        "max_tries": attempt.max_tries,
        "heartbeat_subject": attempt.request.heartbeat_subject,
        "heartbeat_ms": attempt.request.heartbeat_ms,
        "traceparent": attempt.request.traceparent,
        "tracestate": attempt.request.tracestate,
    }


@asynccontextmanager
async def serving(url: str, prefix: str, types: set[str]) -> AsyncIterator[None]:
    """A responder for these types that answers with what it read."""
    app = ajc.Responder(url, prefix=prefix)
    for name in types:

        @app.handler(name)
        async def answer(attempt: ajc.Attempt) -> dict[str, Any]:
            return read_by(attempt)

    async with running(app):
        yield


@asynccontextmanager
async def running(app: ajc.Responder) -> AsyncIterator[None]:
    started = asyncio.Event()
    served = asyncio.create_task(app.serve(started=started.set))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait((served, waiting), return_when=asyncio.FIRST_COMPLETED)
    assert started.is_set(), served
    try:
        yield
    finally:
        app.stop()
        await served


@pytest.mark.rule("EXEC-4")
@pytest.mark.rule("EXEC-5")
@pytest.mark.rule("EXEC-6")
@pytest.mark.rule("EXEC-7")
@pytest.mark.rule("EXEC-8")
@pytest.mark.parametrize("prefix", sorted({case["subject"].rpartition(".")[0] for case in REQUESTS}))
async def test_the_responder_answers_each_request_as_its_vector_says(own_server: Any, prefix: str) -> None:
    mine = [case for case in REQUESTS if case["subject"].rpartition(".")[0] == prefix]
    types = {case["subject"].rpartition(".")[2] for case in mine}
    async with serving(own_server.url, prefix, types), connected(own_server) as connection:
        for case in mine:
            message = await connection.request(
                case["subject"], case["body"].encode(), headers=data(case["header_block_base64"]), timeout=10
            )
            reply = read_reply(message.headers, message.body)
            wanted = {"run": "success"}.get(case["answer"], case["answer"])
            assert reply.kind == wanted, (case["name"], reply)
            if wanted == "success":
                seen = {key: value for key, value in case["read"].items() if key not in ("deadline", "timeout_ms")}
                assert json.loads(reply.body) == seen, case["name"]
            else:
                assert reply.text
            if case["answer"] == "busy":
                version = next(value for name, value in case["headers"] if name == "AJ-Protocol")
                assert version in reply.text


@pytest.mark.rule("EXEC-23")
@pytest.mark.rule("EXEC-27")
async def test_what_the_responder_beats_fits_the_schema(own_server: Any) -> None:
    beats: list[bytes] = []
    app = ajc.Responder(own_server.url)
    said = [
        (0, ""),
        (12.5, "a" * 50),
        (None, "\u202e\n\x07 odd \ud83d\ude80"),
        (100, "z" * 9_000),
    ]

    @app.handler("email:new")
    async def work(attempt: ajc.Attempt) -> bytes:
        for percent, message in said:
            await attempt.progress(percent, message)
            await asyncio.sleep(0.12)
        return b"done"

    case = next(case for case in REQUESTS if case["name"] == "heartbeat")
    async with running(app), connected(own_server) as connection:
        await connection.subscribe(case["read"]["heartbeat_subject"], lambda message: beats.append(message.body))
        await connection.flush()
        message = await connection.request(
            case["subject"], case["body"].encode(), headers=data(case["header_block_base64"]), timeout=20
        )
        await connection.flush()
    assert message.body == b"done"
    told = [json.loads(body) for body in beats if body]
    for body in told:
        schema("progress").validate(body)
    assert [body.get("percent") for body in told][:2] == [0, 12.5]
    assert len(told) == len(said)
