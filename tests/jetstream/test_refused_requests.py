"""What the server does not let the bridge send fails at once: a request to responders, a pull, a read of tasks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import NotPermitted
from ajc.exchange import ExecReply, ExecRequest
from ajc.instant import Instant
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue

CONFIG = """
authorization {
  users = [
    { user: responder, password: r }
    { user: bridge, password: b, permissions {
      publish = ["ajc.exec.May"],
      subscribe = ["_INBOX_b.>", "ajc.beat.*.*"] } }
  ]
}
"""


class Nobody:
    def note(self, detail: object) -> None:
        raise AssertionError(detail)


def request(kind: str) -> ExecRequest:
    return ExecRequest(
        task_id="t", type=kind, queue="Q", try_number=1, max_tries=0, deadline=Instant.now(), timeout_ms=1000
    )


@pytest.mark.parametrize("fast", [True, False])
async def test_what_is_refused_fails_at_once_and_what_is_worked_on_goes_on(make_server: Any, fast: bool) -> None:
    server = make_server(CONFIG)
    responder = await Connection.open(ConnectOptions(servers=(server.url,), user="responder", password="r"))
    options = ConnectOptions(servers=(server.url,), user="bridge", password="b", inbox_prefix="_INBOX_b")
    bridge = await Connection.open(options, fast=fast)
    replies: list[str] = []
    asked = asyncio.Event()

    def note(message: Any) -> None:
        replies.append(message.reply)
        asked.set()

    await responder.subscribe("ajc.exec.*", note, queue="ajc")
    await responder.flush()
    exchange = NatsExchange(bridge, Nobody())
    await exchange.start()
    until = asyncio.get_running_loop().time() + 600

    async def ask(kind: str) -> ExecReply | None:
        return await exchange.request(f"ajc.exec.{kind}", request(kind), until)

    worked_on = asyncio.ensure_future(ask("May"))
    await asked.wait()
    refused = await asyncio.gather(*(ask("MayNot") for _ in range(20)), return_exceptions=True)
    assert {(type(error), str(error).partition(":")[0]) for error in refused} == {
        (NotPermitted, "no permission to publish on ajc.exec.MayNot")
    }
    # a right that is taken away later is nothing to what was let through before
    newer = asyncio.ensure_future(ask("May"))
    await asyncio.sleep(0)
    bridge.refused.read(Exception('nats: permissions violation for publish to "ajc.exec.may"'))
    with pytest.raises(NotPermitted):
        await newer
    assert not worked_on.done()
    responder.publish(replies[0], b"1")
    assert await worked_on == ExecReply("success", body=b"1")
    await bridge.close()
    await responder.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_pull_and_a_read_that_are_refused_fail_at_once(make_server: Any, fast: bool) -> None:
    server = make_server(CONFIG)
    options = ConnectOptions(servers=(server.url,), user="bridge", password="b", inbox_prefix="_INBOX_b")
    bridge = await Connection.open(options, fast=fast)
    queue, store = JetStreamWorkQueue(bridge, "Q", 30 * 10**9), JetStreamTaskStore(bridge)
    await queue.start(Nobody().note)
    await store.start()
    async with asyncio.timeout(2.5):  # less than either waits for an answer
        with pytest.raises(NotPermitted) as pull:
            await queue.pull(1, 30.0, Nobody().note)
        reads = await asyncio.gather(*(store.load(f"t{n}") for n in range(3)), return_exceptions=True)
    assert pull.value.subject == "$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_Q.WORKERS"
    assert {(type(read), getattr(read, "subject", "")) for read in reads} == {
        (NotPermitted, "$JS.API.DIRECT.GET.CHORIA_AJ_TASKS")
    }
    await queue.stop()
    await queue.stop()
    await bridge.close()
