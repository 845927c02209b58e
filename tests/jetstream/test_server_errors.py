"""What a server tells on a connection that stands, and takes back: nobody has to start the process again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from jetstream_world import until

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message
from ajc.errors import AjcError

PERMISSIONS = """
authorization {{ users = [
  {{ user: admin, password: a }}
  {{ user: u, password: {password}, permissions {{ subscribe = {{ allow: [{allow}] }} }} }}
] }}
"""
ALL = '"_INBOX.>", "told.*"'


@pytest.fixture(params=[True, False], ids=["fast", "public"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Any]:
    async def open_connection(server: Any, who: str, told: list[tuple[str, str]]) -> Connection:
        user, _, password = who.partition(":")
        options = ConnectOptions(servers=(server.url,), user=user, password=password)
        return await Connection.open(
            options, fast=request.param, on_state=lambda state, error: told.append((state, str(error)))
        )

    return open_connection


@pytest.mark.parametrize(
    "config", ["max_connections: 1", "max_payload: 8192"], ids=["too many connections", "a smaller limit"]
)
async def test_an_end_that_the_server_takes_back_is_followed_by_another_connection(
    make_server: Any, connect: Callable[..., Any], config: str
) -> None:
    server = make_server("max_payload: 1048576")
    told: tuple[list[tuple[str, str]], ...] = ([], [])
    both = [await connect(server, ":", one) for one in told]
    await server.reload(config)
    if "payload" in config:
        both[0].publish("any", b"x" * 20_000)

    def ended() -> list[int]:
        return [place for place, one in enumerate(told) if any(state == "disconnected" for state, _ in one)]

    await until(ended)
    (place,) = ended()  # of two the server chooses one
    await both[1 - place].close()
    await until(lambda: told[place][-1][0] == "reconnected")
    assert any(state == "error" and "maximum" in text for state, text in told[place])
    again = both[place]
    await again.flush()
    assert not again.closed
    assert again.max_payload == (8192 if "payload" in config else 1048576)
    await again.close()


async def test_a_password_that_is_wrong_for_a_moment_ends_nothing(
    make_server: Any, connect: Callable[..., Any]
) -> None:
    server = make_server(PERMISSIONS.format(password="p", allow=ALL))
    told: list[tuple[str, str]] = []
    connection = await connect(server, "u:p", told)
    await server.reload(PERMISSIONS.format(password="other", allow=ALL))
    await until(lambda: any(state == "disconnected" for state, _ in told))
    await server.reload(PERMISSIONS.format(password="p", allow=ALL))
    await until(lambda: told[-1][0] in ("reconnected", "closed"))
    assert told[-1][0] == "reconnected"
    await connection.close()


async def test_a_subscription_that_is_refused_for_a_while_stands_again_once_it_may(
    make_server: Any, connect: Callable[..., Any]
) -> None:
    server = make_server(PERMISSIONS.format(password="p", allow=ALL))
    admin = await connect(server, "admin:a", [])
    told: list[tuple[str, str]] = []
    connection = await connect(server, "u:p", told)
    got: list[Message] = []
    await connection.subscribe("told.*", got.append)
    await connection.flush()
    await server.reload(PERMISSIONS.format(password="p", allow='"told.none"'))
    log = server.folder / "server.log"
    await until(lambda: log.read_text().count("Subscription Violation") >= 6)  # asked for again, it and the inbox
    assert sum("permissions violation for subscription" in text for _, text in told) == 2, "told once each"
    with pytest.raises(AjcError):
        await connection.request("$JS.API.INFO", timeout=0.3)
    await server.reload(PERMISSIONS.format(password="p", allow=ALL))

    async def heard() -> bool:
        admin.publish("told.one", b"")
        await admin.flush()
        return bool(got)

    await until(heard)
    assert (await connection.request("$JS.API.INFO", timeout=5)).body
    assert not any(state in ("disconnected", "closed") for state, _ in told)
    before = len(got)
    await asyncio.sleep(1)  # asked for once more, it is still one subscription
    admin.publish("told.two", b"")
    await admin.flush()
    await until(lambda: len(got) > before)
    await asyncio.sleep(0.1)
    assert [message.subject for message in got].count("told.two") == 1
    await connection.close()
    await admin.close()
