"""A responder as a NATS service (ADR-32), and what it counts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats
from sdk_world import ask, ending, serving, unique, until

import ajc
from ajc.answers import Answer
from ajc.connection import Connection
from ajc.context import resolve


async def asked(connection: Connection, subject: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await connection.request(subject)).body)
    return answer


def service(url: str, name: str, **more: Any) -> tuple[ajc.Responder, str]:
    app = ajc.Responder(url, name=name, **more)
    kind = unique("t")

    @app.handler(kind, concurrency=7)
    async def handle(payload: str) -> str:
        if payload == "terminate":
            raise ajc.Terminate("never")
        if payload == "busy":
            raise ajc.Busy("full")
        if payload == "fail":
            raise ValueError("no")
        await asyncio.sleep(0.05)
        return payload

    return app, kind


async def test_it_tells_who_it_is_in_three_forms_each(server: Any) -> None:
    """EXEC-31."""
    name = unique("svc")
    app, kind = service(server.url, name, version="1.2.3-rc.1+build", description="answers")
    app.handler(f"{kind}:a_b")(lambda attempt: None)
    app.handler(f"{kind}:a:b")(lambda attempt: None)
    app.handler(f"{kind}-a:b")(lambda attempt: None)
    async with serving(server, app) as connection:
        ping = await asked(connection, f"$SRV.PING.{name}")
        assert (ping["type"], ping["name"], ping["version"]) == (
            "io.nats.micro.v1.ping_response",
            name,
            "1.2.3-rc.1+build",
        )
        for verb in ("PING", "INFO", "STATS"):
            by_name = await asked(connection, f"$SRV.{verb}.{name}")
            by_id = await asked(connection, f"$SRV.{verb}.{name}.{ping['id']}")
            assert by_name == by_id
            found: list[Any] = []
            inbox = f"_INBOX.{unique()}"
            await connection.subscribe(inbox, lambda message, found=found: found.append(json.loads(message.body)))
            connection.publish(f"$SRV.{verb}", reply=inbox)
            await until(lambda found=found, by_id=by_id: by_id in found)
        info = await asked(connection, f"$SRV.INFO.{name}")
        assert info["description"] == "answers"
        endpoint = info["endpoints"][0]
        assert (endpoint["subject"], endpoint["queue_group"]) == (f"ajc.exec.{kind}", "ajc")
        assert endpoint["metadata"] == {"ajc.type": kind, "ajc.concurrency": "7", "ajc.protocol": "1"}
        names = [one["name"] for one in info["endpoints"]]
        assert len(set(names)) == 4
        assert [one["metadata"]["ajc.type"] for one in info["endpoints"]] == list(app.handlers)
        for kind_of, answer in ((ServicePing, ping), (ServiceInfo, info)):
            assert kind_of.from_dict(answer).name == name  # type: ignore[attr-defined]


async def test_it_counts_requests_and_errors_and_time(server: Any) -> None:
    """EXEC-32: busy is no error."""
    name = unique("svc")
    app, kind = service(server.url, name)
    async with serving(server, app) as connection:
        for payload in ("a", "b", "terminate", "busy", "fail"):
            await ask(connection, kind, payload)
        await until(lambda: app.handlers[kind].running == 0)
        stats = await asked(connection, f"$SRV.STATS.{name}")
        (endpoint,) = stats["endpoints"]
        assert (endpoint["num_requests"], endpoint["num_errors"]) == (5, 2)
        assert endpoint["last_error"] == "ValueError: no"
        assert 100_000_000 <= endpoint["processing_time"] < 60_000_000_000
        assert endpoint["average_processing_time"] == pytest.approx(endpoint["processing_time"] / 5, abs=1)
        assert endpoint["data"] == {"busy": 1, "running": 0}
        with pytest.raises(ajc.RequestTimeout):
            await ask(connection, kind, "late", timeout_ms=20, wait=0.3)
        stats = await asked(connection, f"$SRV.STATS.{name}")
        assert stats["endpoints"][0]["num_errors"] == 3
        assert ServiceStats.from_dict(stats).endpoints[0].num_requests == 6


async def asked_while_it_leaves(connection: Connection, subject: str) -> bool:
    """Ask at many moments; whether it was there all the time. Nobody is left without a word."""
    asking = [connection.request(subject, timeout=5) for _ in range(20)]
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(one) for one in found} <= {Answer, ajc.NoResponders}
    return not any(isinstance(one, ajc.NoResponders) for one in found)


async def test_one_that_ends_is_found_no_more(server: Any) -> None:
    """EXEC-34: it leaves the queue group first, then it is no service; what runs is finished."""
    name = unique("svc")
    async with ending(server, ajc.Responder(server.url, name=name)) as (connection, kind):
        async with asyncio.timeout(20):
            while await asked_while_it_leaves(connection, f"$SRV.PING.{name}"):
                pass
        with pytest.raises(ajc.NoResponders):
            await connection.request(f"ajc.exec.{kind}")


def test_names_and_versions() -> None:
    for wrong in ("", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3 "):
        with pytest.raises(ajc.InvalidValue):
            ajc.Responder(version=wrong)
    with pytest.raises(ajc.InvalidValue):
        ajc.Responder(errors="none")  # type: ignore[arg-type]


async def test_a_name_that_no_service_may_have_is_made_one(server: Any) -> None:
    app, _ = service(server.url, "ajc-bridge exec a:b.c")
    async with serving(server, app) as connection:
        assert (await asked(connection, "$SRV.PING.ajc-bridge-exec-a-b-c"))["version"] == "0.0.0"


async def test_missing_rights_are_told_and_the_rest_works(make_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No right to hear of cancels, none to be found: tasks are answered all the same."""
    server = make_server(
        """
        authorization { users: [
          { user: bridge, password: a },
          { user: app, password: a, permissions: {
              publish: [], subscribe: ["ajc.exec.t ajc", "_INBOX.>"], allow_responses: true } } ] }
        """
    )
    app = ajc.Responder(server.url.replace("//", "//app:a@"))

    @app.handler("t")
    async def handle(_attempt: ajc.Attempt) -> str:
        return "done"

    started = asyncio.Event()
    running = asyncio.create_task(app.serve(started=started.set))
    await started.wait()
    connection = await Connection.open(resolve(server.url.replace("//", "//bridge:a@")))
    assert (await ask(connection, "t")).body == b'"done"'
    await connection.close()
    app.stop()
    await running
    told = [line for line in caplog.messages if "a right is missing" in line]
    assert len(told) == 2  # not once for each of nine subjects
    for subject in ("ajc.cancel.*", "$srv.ping"):
        assert any(subject in line for line in told), told
