"""Both forms of an ack subject say the same."""

from __future__ import annotations

import pytest

from ajc_bridge.jetstream.work_queue import _places


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.ACK.CHORIA_AJ_Q_EMAIL.WORKERS.3.120.121.1790000000000000000.42",
        b"$JS.ACK._.ACCOUNT.CHORIA_AJ_Q_EMAIL.WORKERS.3.120.121.1790000000000000000.42",
        b"$JS.ACK.hub.ACCOUNT.CHORIA_AJ_Q_EMAIL.WORKERS.3.120.121.1790000000000000000.42.random",
    ],
)
def test_deliveries_and_backlog(reply: bytes) -> None:
    assert _places(reply) == (3, 42)
