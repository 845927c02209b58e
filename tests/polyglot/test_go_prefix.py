"""The Go example where a Go worker asks: the recorded requests, with their times moved to now."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import ajc
from ajc.headers import encode_headers, parse_headers
from polyglot.examples import ROOT
from polyglot.programs import built, serving

pytestmark = [pytest.mark.polyglot, pytest.mark.slow]
CASES = [json.loads(line) for line in (ROOT / "tests" / "vectors" / "remote_exec.jsonl").read_text().splitlines()[1:]]
ASKED = [one["request"] for one in CASES if one.get("registered_as") == "email:new" and one["request"]]


@pytest.fixture(scope="module")
def responder(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    log = tmp_path_factory.mktemp("go") / "responder.log"
    with serving(built("go"), server, log, AJC_FAMILY="email", EXEC_PREFIX="CHORIA_AJ.H.T"):
        yield server


async def ask(server: Any, name: str, payload: bytes, *, seconds: float = 20, recorded: int = 0) -> tuple[Any, bytes]:
    """Ask as Go does, with a recorded request: its own headers, its own task; the reply's headers and body."""
    request = ASKED[recorded]
    task = json.loads(request["body"]) | {"type": f"email:{name}", "payload": base64.b64encode(payload).decode()}
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    pairs = {key: values[0] for key, values in request["headers"].items()}
    assert set(pairs) == {"AJ-Content-Type", "AJ-Handler-Deadline"}
    pairs["AJ-Handler-Deadline"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    async with ajc.connect(server.url) as client:
        subject, body = f"CHORIA_AJ.H.T.email:{name}", json.dumps(task).encode()
        while True:
            try:
                reply = await client.connection.request(subject, body, headers=encode_headers(pairs), timeout=30)
            except ajc.errors.NoResponders:
                continue  # it has not subscribed yet
            return parse_headers(reply.headers or b"NATS/1.0\r\n\r\n").items, reply.body


@pytest.mark.parametrize("recorded", range(len(ASKED)))
async def test_each_recorded_request_is_served(responder: Any, recorded: int) -> None:
    assert await ask(responder, "echo", b"\xff\x00 bytes", recorded=recorded) == ((), b"\xff\x00 bytes")


@pytest.mark.parametrize(
    ("name", "header", "text"),
    [
        ("fail", "AJ-Error", "smtp down"),
        ("crash", "AJ-Error", "smtp down"),
        ("terminate", "AJ-Terminate", "bad address"),
    ],
)
async def test_a_failure_is_spelt_as_go_looks_it_up(responder: Any, name: str, header: str, text: str) -> None:
    items, body = await ask(responder, name, text.encode())
    assert (header, text) in list(items)
    assert body == b""


async def test_busy_is_an_error_to_who_does_not_know_it(responder: Any) -> None:
    items, _ = await ask(responder, "busy", b"no room")
    assert ("AJ-Error", "no room") in list(items)


async def test_it_answers_before_the_deadline_that_go_gives(responder: Any) -> None:
    began = datetime.now(UTC)
    items, _ = await ask(responder, "slow", b"60000", seconds=3)
    assert dict(items)["AJ-Error"] == "not done by the deadline"
    assert datetime.now(UTC) - began < timedelta(seconds=3.2)
