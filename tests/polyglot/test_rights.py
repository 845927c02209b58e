"""Responders that may answer their own types and no more: no cancel, no discovery. And one with a wrong password."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ajc
from ajc.exchange import read_reply
from polyglot.programs import built, serving, starting

pytestmark = [pytest.mark.polyglot, pytest.mark.slow]
RIGHTS = """
authorization { users: [
  { user: admin, password: a }
  { user: responder, password: r, permissions: {
      publish: ["ajc.beat.*.*"], subscribe: ["ajc.exec.* ajc"], allow_responses: { max: 1, expires: "1m" } } }
] }
"""


def seen_by(server: Any, user: str) -> Any:
    return SimpleNamespace(url=server.url.replace("//", f"//{user}@"))


@pytest.mark.parametrize("name", ["go", "typescript"])
async def test_it_serves_without_the_right_to_more(make_server: Any, tmp_path: Path, name: str) -> None:
    server = make_server(RIGHTS)
    log = tmp_path / "responder.log"
    with serving(built(name), seen_by(server, "responder:r"), log, AJC_FAMILY=name):
        async with ajc.connect(seen_by(server, "admin:a").url) as client:

            async def asked(body: bytes) -> Any:
                while True:
                    try:
                        reply = await client.connection.request(f"ajc.exec.{name}:echo", body, timeout=20)
                    except ajc.errors.NoResponders:
                        continue  # it has not subscribed yet
                    return read_reply(reply.headers, reply.body)

            for _ in range(2):
                reply = await asked(b'{"id":"one","payload":"aGk="}')
                assert (reply.kind, reply.body) == ("success", b"hi")
            for junk in (b"junk", b"[1]", b'{"id":"one","payload":7}'):
                assert (await asked(junk)).kind == "error"
    assert "permissions violation" not in log.read_text().lower()  # a responder of L2 asks for no more than it may


@pytest.mark.parametrize("name", ["go", "typescript"])
async def test_a_wrong_password_is_told(make_server: Any, tmp_path: Path, name: str) -> None:
    log = tmp_path / "responder.log"
    with starting(built(name), seen_by(make_server(RIGHTS), "responder:x"), log):
        while "authorization violation" not in log.read_text().lower():
            await asyncio.sleep(0.05)
