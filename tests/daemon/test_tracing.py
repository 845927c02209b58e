"""EXEC-33: a producer's trace context reaches the responder in every attempt; with OpenTelemetry below a span of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from signal import SIGTERM
from typing import Any

import pytest
from outside import world_of
from scripted_responder import busy, done, failed

from ajc.headers import encode_headers
from ajc.sync import connect_sync

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE"
CONFIG = '[queues.Q]\nbackoff = "quick"\n[backoff.quick]\nsteps = ["50ms"]\n'
OFF = {"OTEL_SDK_DISABLED": "true"}


def spans(text: str) -> Iterator[dict[str, Any]]:
    """The spans that OpenTelemetry's console exporter wrote between log lines."""
    decoder = json.JSONDecoder()
    at = text.find("{\n")
    while at >= 0:
        span, end = decoder.raw_decode(text, at)
        yield span
        at = text.find("{\n", end)


async def test_it_is_passed_on_unchanged_in_every_attempt(own_server, make_bridge, kind) -> None:
    """Through a retry, a park for want of room and one for want of a responder; whatever other keys there are."""
    bridge = await make_bridge(own_server.url, CONFIG, env=OFF).ready()
    async with world_of(own_server.url, bridge) as world:
        task = await world.run(kind, queue="Q", traceparent=PARENT, tracestate=STATE)
        await world.until_schedule("Q", task.id)  # nobody is there yet
        responder = await world.serve(kind, [busy("later", 50), failed("no"), failed("no"), done()])
        found = await world.settled(task, "complete")
        assert (found.tries, found.traceparent, found.tracestate) == (3, PARENT, STATE)
        got = [(one.header("traceparent"), one.header("tracestate")) for one in responder.requests]
        assert got == [(PARENT, STATE)] * 4
        plain = await world.serve(f"{kind}-plain", [done()])
        await world.settled(await world.run(f"{kind}-plain", queue="Q"), "complete")
        assert plain.last.header("traceparent") is None


@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
async def test_a_producer_may_write_it_in_the_records_headers(own_server, make_bridge, kind, name) -> None:
    bridge = await make_bridge(own_server.url, CONFIG, env=OFF).ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [failed("no"), done()])
        task = world.task(kind, queue="Q")
        headers = encode_headers([("Nats-Expected-Last-Subject-Sequence", "0"), (name, PARENT), ("tracestate", STATE)])
        await world.connection.stored(f"CHORIA_AJ.T.{task.id}", task.encode(), headers=headers)
        await world.put_item("Q", task.id)
        await world.settled(task, "complete")
        got = [(one.header("traceparent"), one.header("tracestate")) for one in responder.requests]
        assert got == [(PARENT, STATE)] * 2


@pytest.mark.parametrize(
    ("parent", "state", "passed"),
    [
        ("junk", STATE, (None, None)),
        (PARENT.upper(), STATE, (None, None)),
        (PARENT + "\r\nAJ-Try: 99", STATE, (None, None)),
        (PARENT, "no state", (PARENT, None)),
        (PARENT, "a=b\r\nAJ-Try: 99", (PARENT, None)),
        (PARENT, "a=" + "x" * 600, (PARENT, None)),
    ],
)
async def test_a_bad_one_is_ignored_and_the_task_is_run(site, kind, parent, state, passed) -> None:
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = await world.run(kind, traceparent=parent, tracestate=state)
        await world.settled(task, "complete")
        request = responder.last
        assert request.header("AJ-Try") == "1"
        got = (request.header("traceparent"), request.header("tracestate"))
        if passed[0] is None:
            assert got == passed
        else:  # a span of the bridge's own may be between
            assert got[0] is not None
            assert got[0][:36] == parent[:36]
            assert got[1] is None


async def test_with_opentelemetry_each_attempt_is_a_span_below_the_producers(own_server, make_bridge, kind) -> None:
    bridge = make_bridge(
        own_server.url, CONFIG, env={"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    )
    await bridge.ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [failed("no"), done()])
        task = await world.run(kind, queue="Q", traceparent=PARENT, tracestate=STATE)
        await world.settled(task, "complete")
        root = await world.serve(f"{kind}-root", [done()])
        await world.settled(await world.run(f"{kind}-root", queue="Q"), "complete")
    first, second = (str(one.header("traceparent")).split("-") for one in responder.requests)
    assert first[1] == second[1] == PARENT.split("-")[1]
    assert len({first[2], second[2], PARENT.split("-")[2]}) == 3
    assert {one.header("tracestate") for one in responder.requests} == {STATE}
    begun = str(root.last.header("traceparent")).split("-")
    assert begun[1] != first[1]
    bridge.signal(SIGTERM)
    assert await bridge.ended() == 0
    text = bridge.log_file.read_text()
    told = {one["context"]["span_id"].removeprefix("0x"): one for one in spans(text)}
    assert {first[2], second[2], begun[2]} == set(told)
    one, two = told[first[2]], told[second[2]]
    assert one["parent_id"] == two["parent_id"] == "0x" + PARENT.split("-")[2]
    assert (one["name"], one["kind"]) == (f"process {kind}", "SpanKind.CONSUMER")
    assert one["attributes"]["messaging.message.id"] == task.id
    assert (one["attributes"]["ajc.outcome"], two["attributes"]["ajc.outcome"]) == ("failed", "succeeded")
    assert (one["attributes"]["ajc.task.try"], two["attributes"]["ajc.task.try"]) == (1, 2)
    assert one["status"] == {"status_code": "ERROR", "description": "no"}
    assert two["status"]["status_code"] == "UNSET"
    assert one["resource"]["attributes"]["service.name"] == "ajc-bridge"


async def test_installed_and_without_an_exporter_ids_are_new_only_below_a_producers(site, kind) -> None:
    async with site.world() as world:
        responder = await world.serve(kind, [failed("no"), done(), done()])
        task = await world.run(kind, traceparent=PARENT)
        await world.settled(task, "complete")
        await world.settled(await world.run(kind), "complete")
        first, second, plain = (one.header("traceparent") for one in responder.requests)
        assert first is not None
        assert second is not None
        assert first[:36] == second[:36] == PARENT[:36]
        assert len({first, second, PARENT}) == 3
        assert plain is None


async def test_an_exporter_that_is_not_there_is_told(own_server, make_bridge) -> None:
    bridge = make_bridge(own_server.url, CONFIG, env={"OTEL_TRACES_EXPORTER": "nowhere"})
    assert await bridge.ended() == 2
    assert "nowhere" in bridge.tail()
    assert "ajc-bridge[otel]" in bridge.tail()


def test_without_opentelemetry_there_is_no_tracer() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from ajc_bridge.journal.traces import open_tracer; print(open_tracer())"
    )
    done_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done_.stdout == "None\n"


def test_a_thread_of_a_blocking_client_has_its_own_current_span(own_server) -> None:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  (what imports it is what is tested)

    with connect_sync(own_server.url) as client:
        from ajc import Queue  # noqa: PLC0415

        client.ensure_queue(Queue("SYNC"))
        with TracerProvider().get_tracer("test").start_as_current_span("order") as span:
            task = client.enqueue("a", queue="SYNC")
        assert f"{span.get_span_context().span_id:016x}" in client.load(task.id).traceparent
        assert client.load(client.enqueue("a", queue="SYNC").id).traceparent == ""
