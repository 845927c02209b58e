"""Nothing is sent that a server takes no more which was connected to just now: it would end the connection."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import TooLarge
from ajc.exchange import ExecRequest
from ajc.instant import Instant
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.task_store import JetStreamTaskStore

SMALLER = 20_000
REQUEST = ExecRequest(
    task_id="t", type="kind", queue="Q", try_number=1, max_tries=0, deadline=Instant(0), timeout_ms=1000
)


class Nobody:
    def note(self, detail: object) -> None:
        raise AssertionError(detail)


@pytest.mark.parametrize("fast", [True, False])
async def test_a_smaller_limit_counts_before_anybody_was_told_of_the_reconnect(server, *, fast: bool) -> None:
    connection = await Connection.open(ConnectOptions(servers=(server.url,)), private_inbox=True, fast=fast)
    try:
        exchange, store = NatsExchange(connection, Nobody()), JetStreamTaskStore(connection)
        # what nats-py does while it connects to a server that says so
        connection._transport._client._max_payload = SMALLER
        assert exchange.limit > SMALLER  # not told
        until = connection._requests._loop.time() + 60
        with pytest.raises(TooLarge):
            await exchange.request("ajc.exec.kind", replace(REQUEST, body=b"x" * SMALLER), until)
        with pytest.raises(TooLarge) as refused:
            await store.save("t", b"x" * SMALLER, 0)
        assert refused.value.limit < SMALLER
        assert connection.pending == 0
        await exchange.start()
        reply = await exchange.request("ajc.exec.kind", replace(REQUEST, body=b"x" * (SMALLER // 2)), until)
        assert reply is not None
        assert reply.kind == "no_responder"
    finally:
        await connection.close()
