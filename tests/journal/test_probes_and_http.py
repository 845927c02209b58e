"""/healthz, /readyz and /metrics, and what makes the process ready."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest

from ajc.errors import InvalidValue
from ajc_bridge import happenings as happened
from ajc_bridge.http.routes import application
from ajc_bridge.http.server import HttpServer
from ajc_bridge.journal.journal import Journal
from ajc_bridge.probes import Readiness


def bound(queue: str) -> happened.QueueBound:
    return happened.QueueBound(
        queue, created=False, priority=1, max_concurrent=1, max_tries=0, lease_ns=1, max_run_time_ns=1
    )


def test_ready_is_connected_with_every_queue_bound() -> None:
    probe = Readiness()
    journal = Journal([probe])
    assert probe.missing() == ["not connected to NATS", "no queue is served yet"]
    probe.expect(["A", "B"])
    journal.note(happened.Connected("s", "v"))
    journal.note(bound("A"))
    journal.note(happened.QueueLost("B", "no stream"))
    assert probe.body() == {
        "ready": False,
        "missing": ["queue B is not bound: no stream"],
        "connected": True,
        "queues": {"A": True, "B": False},
    }
    journal.note(bound("B"))
    assert probe.ready
    journal.note(happened.Disconnected("gone"))
    assert probe.missing() == ["not connected to NATS"]
    journal.note(happened.Reconnected("s", "v"))
    assert probe.ready
    journal.note(happened.QueueLost("A", ""))
    assert probe.missing() == ["queue A is not bound"]
    probe.expect(["B"])
    assert probe.ready
    journal.note(happened.Draining(0, 1))
    assert probe.missing() == ["draining"]


def test_a_queue_found_later_counts_too() -> None:
    probe = Readiness()
    journal = Journal([probe])
    journal.note(happened.Connected("s", "v"))
    journal.note(bound("FOUND"))
    assert probe.ready
    journal.note(happened.QueueLost("FOUND", "gone"))
    assert not probe.ready


async def test_the_routes_answer_on_a_free_port() -> None:
    probe = Readiness()
    server = HttpServer("127.0.0.1:0", application(probe, lambda: b"# a page\n"))
    before = signal.getsignal(signal.SIGTERM)
    url = await server.start()
    try:
        assert signal.getsignal(signal.SIGTERM) is before  # signals are the daemon's
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/healthz")).json() == {"status": "ok"}
            assert (await http.get("/readyz")).status_code == 503
            Journal([probe]).note(happened.Connected("s", "v"))
            Journal([probe]).note(bound("A"))
            assert (await http.get("/readyz")).status_code == 200
            page = await http.get("/metrics")
            assert (page.text, page.headers["content-type"]) == (
                "# a page\n",
                "text/plain; version=0.0.4; charset=utf-8",
            )
            assert (await http.head("/metrics")).status_code == 200
            assert (await http.post("/metrics")).status_code == 405
            assert (await http.get("/etc/passwd")).status_code == 404
    finally:
        await server.stop()
    async with httpx.AsyncClient(base_url=url) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/healthz")


async def test_stopping_does_not_wait_for_a_client_that_hangs() -> None:
    server = HttpServer("127.0.0.1:0", application(Readiness(), lambda: b""))
    url = await server.start()
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    await writer.drain()
    async with asyncio.timeout(10):
        await server.stop()
    writer.close()


@pytest.mark.parametrize("listen", ["127.0.0.1", "203.0.113.1"])
async def test_an_address_that_cannot_be_had_names_the_key(listen) -> None:
    taken = HttpServer("127.0.0.1:0", application(Readiness(), lambda: b""))
    port = (await taken.start()).rsplit(":", 1)[1]
    try:
        with pytest.raises(InvalidValue) as caught:
            await HttpServer(f"{listen}:{port}", application(Readiness(), lambda: b"")).start()
        assert caught.value.field == "http.listen"
    finally:
        await taken.stop()


async def test_ipv6_is_written_in_brackets() -> None:
    server = HttpServer("[::1]:0", application(Readiness(), lambda: b""))
    try:
        url = await server.start()
    except InvalidValue:
        pytest.skip("no IPv6 here")
    assert url.startswith("http://[::1]:")
    await server.stop()
