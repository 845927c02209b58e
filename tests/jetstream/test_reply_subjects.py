"""A responder sees the reply subject of its own requests, and must not guess those of others."""

from __future__ import annotations

from itertools import pairwise

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.exchange import ExecRequest
from ajc.instant import Instant
from ajc_bridge.jetstream.exchange import NatsExchange


class Nobody:
    def note(self, detail: object) -> None:
        raise AssertionError(detail)


async def test_reply_subjects_follow_no_order(server) -> None:
    bridge = await Connection.open(ConnectOptions(servers=(server.url,)), private_inbox=True)
    responder = await Connection.open(ConnectOptions(servers=(server.url,)))
    seen: list[str] = []

    def answer(message) -> None:
        seen.append(message.reply)
        responder.publish(message.reply, b"1")

    await responder.subscribe("ajc.exec.guess", answer, queue="ajc")
    await responder.flush()
    exchange = NatsExchange(bridge, Nobody())
    await exchange.start()
    request = ExecRequest(
        task_id="t", type="guess", queue="Q", try_number=1, max_tries=0, deadline=Instant.now(), timeout_ms=1000
    )
    for _ in range(20):
        reply = await exchange.request("ajc.exec.guess", request, bridge._requests._loop.time() + 5)
        assert reply is not None
    inboxes = {subject.rpartition(".")[0] for subject in seen}
    numbers = [int(subject.rpartition(".")[2], 16) for subject in seen]
    assert len(inboxes) == 1
    assert len(set(numbers)) == 20
    assert min(abs(one - other) for one, other in pairwise(numbers)) > 1_000_000
    await bridge.close()
    await responder.close()
