"""TLS, by an upgrade and from the first byte: other streams than those of a plain connection, with the same messages.

The certificate (for 127.0.0.1, until 2120) and its key are of no use to anything but these tests.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import Unavailable

HERE = Path(__file__).parent / "tls"
CERTIFICATE, KEY = HERE / "certificate.pem", HERE / "key.pem"


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("first", [False, True])
async def test_messages_over_tls(make_server: Any, first: bool, fast: bool) -> None:
    server = make_server(
        f'tls {{ cert_file: "{CERTIFICATE}", key_file: "{KEY}", handshake_first: {str(first).lower()} }}'
    )
    options = ConnectOptions(servers=(server.url,), tls_ca=str(CERTIFICATE), tls_first=first)
    connection = await Connection.open(options, fast=fast)
    assert connection.fast_path_missing is None
    got: list[bytes] = []
    await connection.subscribe_raw("bulk", lambda _subject, _reply, body, _headers: got.append(body))
    bodies = [bytes([size % 251]) * size for size in (0, 1, 70_000, 500_000, 2)] * 3
    for body in bodies:
        connection.publish("bulk", body)
    await connection.flush()
    await connection.subscribe_raw("echo", lambda _s, reply, body, _h: connection.publish(reply.decode(), body))
    answers = await asyncio.gather(*(connection.request("echo", b"%d" % number) for number in range(200)))
    assert got == bodies
    assert [answer.body for answer in answers] == [b"%d" % number for number in range(200)]
    await connection.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(make_server: Any) -> None:
    server = make_server(f'tls {{ cert_file: "{CERTIFICATE}", key_file: "{KEY}" }}')
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await Connection.open(ConnectOptions(servers=(server.url.replace("nats:", "tls:"),), connect_timeout=2))
