"""A dead letter that the stream does not take whole is stored in part; one that it never takes is no reason to wait."""

from __future__ import annotations

import json

import pytest

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import TooLarge
from ajc.instant import Instant
from ajc.subjects import DLQ_STREAM
from ajc.topology import ensure_stores
from ajc_bridge.decision.transition import DeadLetter
from ajc_bridge.jetstream.dead_letters import JetStreamDeadLetters


def letter(**fields: object) -> DeadLetter:
    plain = {"queue": "Q", "task_id": "t1", "type": "kind", "reason": "tries", "error": "no", "tries": 1}
    return DeadLetter(**plain | fields, time=Instant.now())


async def test_texts_beyond_the_servers_headers_are_cut(own_server) -> None:
    connection = await Connection.open(ConnectOptions(servers=(own_server.url,)))
    await ensure_stores(connection)
    letters = JetStreamDeadLetters(connection)
    await letters.publish(letter(error="x" * 100_000, type="y" * 70_000), b"{}")
    await letters.publish(letter(task_id="t2"), b"z" * (connection.max_payload - 50))
    state = (await connection.api(f"STREAM.INFO.{DLQ_STREAM}"))["state"]
    assert state["messages"] == 2

    config = (await connection.api(f"STREAM.INFO.{DLQ_STREAM}"))["config"]
    config["max_msg_size"] = 400
    await connection.api(f"STREAM.UPDATE.{DLQ_STREAM}", config)
    await letters.publish(letter(task_id="t3", error="long " * 100), json.dumps({"a": "b" * 500}).encode())
    config["max_msg_size"] = 10
    await connection.api(f"STREAM.UPDATE.{DLQ_STREAM}", config)
    with pytest.raises(TooLarge):
        await letters.publish(letter(task_id="t4"), b"{}")
    state = (await connection.api(f"STREAM.INFO.{DLQ_STREAM}"))["state"]
    assert state["messages"] == 3
    await connection.close()


async def test_a_full_task_store_is_a_store_that_is_away(own_server) -> None:
    """Its refusal has the code of a full queue; the result must wait for room, not be thrown away."""
    from ajc.errors import Unavailable  # noqa: PLC0415
    from ajc_bridge.jetstream.task_store import JetStreamTaskStore  # noqa: PLC0415

    connection = await Connection.open(ConnectOptions(servers=(own_server.url,)))
    await ensure_stores(connection)
    config = (await connection.api("STREAM.INFO.CHORIA_AJ_TASKS"))["config"]
    await connection.api("STREAM.UPDATE.CHORIA_AJ_TASKS", config | {"max_msgs": 1, "discard": "new"})
    store = JetStreamTaskStore(connection)
    await store.start()
    revision = await store.save("t1", b"{}", 0)
    with pytest.raises(Unavailable):
        await store.save("t2", b"{}", 0)
    await connection.api("STREAM.UPDATE.CHORIA_AJ_TASKS", config | {"max_msgs": 2, "discard": "new"})
    assert await store.save("t2", b"{}", 0) > revision
    await connection.close()
