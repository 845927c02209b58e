"""Responders found as NATS services: what they say, what anybody may say there, and how long it takes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.micro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.micro.service import EndpointConfig, ServiceConfig

import ajc
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message
from ajc.discovery import FoundEndpoint, _decoded, _endpoints, find_endpoints


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(ConnectOptions(servers=(url,)), name="test")
    try:
        yield connection
    finally:
        await connection.close()


def info(number: int, **endpoint: Any) -> dict[str, Any]:
    metadata = {"ajc.type": "email:new", "ajc.concurrency": "10", "ajc.protocol": "1"}
    given_ = {"name": "email", "subject": "ajc.exec.email:new", "queue_group": "ajc", "metadata": metadata}
    return {
        "type": "io.nats.micro.v1.info_response",
        "name": "mailer",
        "id": f"I{number}",
        "version": "1.0.0",
        "endpoints": [given_ | endpoint],
    }


def stats(number: int, **endpoint: Any) -> dict[str, Any]:
    numbers = {"num_requests": 4, "num_errors": 1, "processing_time": 8_000_000, "average_processing_time": 2_000_000}
    given_ = {"name": "email", "subject": "ajc.exec.email:new", "queue_group": "ajc"} | numbers
    return {"type": "io.nats.micro.v1.stats_response", "name": "mailer", "id": f"I{number}"} | {
        "version": "1.0.0",
        "endpoints": [given_ | endpoint],
    }


async def fake(connection: Connection, subject: str, answers: list[bytes]) -> None:
    """Answer a request there with all of these."""

    def asked(message: Message) -> None:
        for answer in answers:
            connection.publish(message.reply, answer)

    await connection.subscribe(subject, asked)
    await connection.flush()


async def test_a_service_of_nats_own_library_is_found_with_what_it_counts(own_server) -> None:
    """EXEC-31, EXEC-32: metadata of the endpoints, and its own statistics."""
    client = await nats.connect(own_server.url)
    config = ServiceConfig(name="mailer", version="2.1.0", description="sends mail")
    service = await nats.micro.add_service(client, config)

    async def handle(request: Any) -> None:
        if request.data == b"bad":
            raise ValueError("no")
        await request.respond(b"done")

    metadata = {"ajc.type": "email:new", "ajc.concurrency": "7", "ajc.protocol": "1"}
    await service.add_endpoint(
        EndpointConfig(
            name="email-new", subject="ajc.exec.email:new", queue_group="ajc", metadata=metadata, handler=handle
        )
    )
    await client.flush()
    for body in (b"good", b"good", b"bad"):
        await client.request("ajc.exec.email:new", body)
    async with connected(own_server.url) as connection:
        (found,) = await find_endpoints(connection)
        (plain,) = await find_endpoints(connection, statistics=False)
    assert (found.type, found.service, found.version, found.name) == ("email:new", "mailer", "2.1.0", "email-new")
    assert (found.capacity, found.protocol, found.queue_group) == (7, "1", "ajc")
    assert (found.requests, found.errors) == (3, 1)
    assert found.processing_ns is not None
    assert 0 < found.processing_ns < 60e9
    assert (plain.requests, plain.errors, plain.processing_ns) == (None, None, None)
    await client.close()


async def test_the_sdks_responder_is_found_with_what_it_counts(own_server) -> None:
    app = ajc.Responder(own_server.url)

    @app.handler("found:here", concurrency=4)
    async def handle(attempt: ajc.Attempt) -> str:
        if attempt.payload == "bad":
            raise ajc.Terminate("no")
        return "done"

    serving = asyncio.create_task(app.serve())
    try:
        async with connected(own_server.url) as connection:
            while not (found := await find_endpoints(connection)):
                await asyncio.sleep(0.02)
            for payload in ("good", "bad"):
                task = ajc.new_task("found:here", payload, queue="Q").replace(state="active", tries=1)
                headers = b"NATS/1.0\r\nAJ-Timeout-Ms: 5000\r\n\r\n"
                await connection.request("ajc.exec.found:here", task.encode(), headers=headers)
            (found,) = await find_endpoints(connection)
    finally:
        app.stop()
        await serving
    assert (found.type, found.subject, found.queue_group) == ("found:here", "ajc.exec.found:here", "ajc")
    assert (found.capacity, found.protocol) == (4, "1")
    assert (found.requests, found.errors) == (2, 1)
    assert found.processing_ns


async def test_nobody_is_told_at_once(own_server) -> None:
    async with connected(own_server.url) as connection:
        began = time.monotonic()
        assert await find_endpoints(connection) == []
        assert time.monotonic() - began < 0.5


async def test_a_thousand_instances(own_server) -> None:
    async with connected(own_server.url) as services, connected(own_server.url) as connection:
        await fake(services, "$SRV.INFO", [json.dumps(info(number)).encode() for number in range(1_000)])
        await fake(services, "$SRV.STATS", [json.dumps(stats(number)).encode() for number in range(1_000)])
        found = await find_endpoints(connection)
        assert len(found) == len({one.id for one in found}) == 1_000
        assert sum(one.requests or 0 for one in found) == 4_000


async def test_junk_on_the_services_subjects_hides_nobody(own_server) -> None:
    junk = [
        *(b"", b"\xff\xfe", b"[]", b"null", b'{"id": 5}', b"{" * 5_000, b"[" * 20_000),
        json.dumps(info(1) | {"endpoints": "no"}).encode(),
        json.dumps(info(2, metadata={"ajc.type": "a b"}, subject="x")).encode(),
        json.dumps(info(3, metadata=["ajc.type"], subject=">")).encode(),
        json.dumps({"id": "x" * 70_000, "endpoints": []}).encode(),
    ]
    bad = stats(8, num_requests=-1, num_errors="many", processing_time=1e300)
    async with connected(own_server.url) as services, connected(own_server.url) as connection:
        good = [json.dumps(one).encode() for one in (info(7), info(7, metadata={"ajc.type": "email:new"}), info(8))]
        await fake(services, "$SRV.INFO", [*junk, *good, *junk])
        await fake(services, "$SRV.STATS", [*junk, json.dumps(bad).encode(), json.dumps(stats(7)).encode()])
        seven, eight = await find_endpoints(connection)
        assert (seven.id, seven.capacity, seven.requests) == ("I7", 10, 4)
        assert (eight.id, eight.requests, eight.errors, eight.processing_ns) == ("I8", 0, 0, 0)


async def test_who_never_stops_answering_is_not_listened_to_for_long(own_server) -> None:
    async with connected(own_server.url) as services, connected(own_server.url) as connection:
        stop = asyncio.Event()

        async def go_on(reply: str) -> None:
            for number in range(100_000):
                if stop.is_set():
                    return
                services.publish(reply, json.dumps(info(number)).encode())
                await asyncio.sleep(0.001)

        talking: list[asyncio.Task[None]] = []
        await services.subscribe("$SRV.INFO", lambda message: talking.append(asyncio.create_task(go_on(message.reply))))
        await services.flush()
        began = time.monotonic()
        found = await find_endpoints(connection, statistics=False, longest=0.8)
        assert 0.7 < time.monotonic() - began < 5
        assert len(found) > 1
        stop.set()
        await asyncio.gather(*talking)


@pytest.mark.parametrize(
    ("endpoint", "type_", "capacity"),
    [
        ({"metadata": None}, "email:new", None),
        ({"metadata": None, "subject": "CHORIA_AJ.H.T.old:job"}, "old:job", None),
        ({"metadata": {"ajc.type": "other"}}, "other", None),
        ({"metadata": {"ajc.type": "other", "ajc.concurrency": "-3"}}, "other", None),
        ({"metadata": {"ajc.type": "other", "ajc.concurrency": "9" * 40}}, "other", None),
        ({"metadata": {"ajc.type": "catchall", "ajc.concurrency": "3"}}, "catchall", 3),
    ],
)
def test_what_an_endpoint_says_of_itself(endpoint, type_, capacity) -> None:
    (found,) = _endpoints(info(1, **endpoint), 0.1)
    assert (found.type, found.capacity) == (type_, capacity)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(["id", "name", "version", "endpoints", "metadata", "subject", "queue_group"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_keys, _values | st.lists(st.dictionaries(_keys, _values)), max_size=5))
def test_an_answer_of_any_shape_raises_nothing(service) -> None:
    decoded = _decoded(json.dumps(service).encode())
    if decoded is not None:
        assert all(isinstance(one, FoundEndpoint) for one in _endpoints(decoded, 0.0))
