"""What the server does not let a user do fails at once and says so: it is no server that does not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sdk_world import item_of, unique, until

import ajc
from ajc import enqueue_many, untaken
from ajc.connection import Connection, Message
from ajc.context import resolve
from ajc.task_records import save_task

CONFIG = """
authorization {
  users = [
    { user: admin, password: a }
    {
      user: some, password: s
      permissions {
        publish = ["CHORIA_AJ.T.*", "CHORIA_AJ.E.>", "$JS.API.STREAM.MSG.GET.CHORIA_AJ_TASKS", "CHORIA_AJ.Q.MAY.*",
          "CHORIA_AJ.Q.LATE.*", "ajc.cancel.*"]
        subscribe = ["_INBOX.>"]
      }
    }
    { user: retrier, password: t, permissions { publish = { deny: ["CHORIA_AJ.Q.>"] } } }
    { user: none, password: n, permissions { publish = ["x"], subscribe = ["_INBOX.>", "CHORIA_AJ.E.>"] } }
    {
      user: reader, password: r
      permissions {
        publish = ["$JS.API.STREAM.MSG.GET.CHORIA_AJ_TASKS"]
        subscribe = ["_INBOX.>"]
      }
    }
  ]
}
"""


async def served(make_server: Any) -> Any:
    running = make_server(CONFIG)
    async with ajc.connect(url(running, "admin:a")) as client:
        for name in ("MAY", "MAY_NOT"):
            await client.ensure_queue(ajc.Queue(name))
    return running


def url(server: Any, who: str) -> str:
    return str(server.url).replace("nats://", f"nats://{who}@")


@pytest.mark.parametrize("fast", [True, False])
async def test_a_request_fails_at_once_and_others_go_on(make_server: Any, fast: bool) -> None:
    server = await served(make_server)
    connection = await Connection.open(resolve(url(server, "some:s")), fast=fast)
    subject = unique("Not.Allowed")
    refused = connection.ask(subject, timeout=60)
    with pytest.raises(ajc.NotPermitted, match=subject) as found:
        await refused
    assert found.value.subject == subject
    with pytest.raises(ajc.NotFound):
        await connection.api("STREAM.MSG.GET.CHORIA_AJ_TASKS", {"last_by_subj": "CHORIA_AJ.T.none"})
    await connection.close()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("word", ["authentication", "authorization", "credentials"])
async def test_a_refused_subject_is_no_refusal_of_the_connection(make_server: Any, word: str, fast: bool) -> None:
    server = make_server(CONFIG)
    connection = await Connection.open(resolve(url(server, "some:s")), fast=fast)
    for number in range(4):
        with pytest.raises(ajc.NotPermitted, match=word):
            await connection.request(f"user.{word}.{number}")
    await connection.flush()
    assert connection.connected
    await connection.close()


async def test_an_enqueue_without_the_right_to_the_store_leaves_nothing(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "none:n")) as client:
        with pytest.raises(ajc.NotPermitted, match=r"CHORIA_AJ\.T\.one"):
            await client.enqueue("email:new", id="one", queue="MAY")
    async with ajc.connect(url(server, "admin:a")) as client:
        with pytest.raises(ajc.NotFound):
            await client.load("one")


async def test_an_enqueue_without_the_right_to_its_queue_says_so_in_the_record(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "some:s")) as client:
        with pytest.raises(ajc.NotPermitted, match=r"CHORIA_AJ\.Q\.MAY_NOT\.two"):
            await client.enqueue("email:new", id="two", queue="MAY_NOT")
        task = await client.load("two")
        assert task.state == "queue_error"
        assert "no permission to publish on CHORIA_AJ.Q.MAY_NOT.two" in task.last_err
        assert (await client.enqueue("email:new", id="three", queue="MAY")).state == "new"


@pytest.mark.parametrize("same", [True, False])
async def test_a_repeated_enqueue_without_the_right_to_the_queue_leaves_the_queued_task(
    make_server: Any, same: bool
) -> None:
    server = await served(make_server)
    task = ajc.new_task("email:new", id="four", queue="MAY_NOT")
    async with ajc.connect(url(server, "admin:a")) as admin:
        assert [found async for found in admin.enqueue_many([task])] == [task]
        async with ajc.connect(url(server, "some:s")) as client:
            repeated = task if same else ajc.new_task("email:new", id="four", queue="MAY_NOT")
            with pytest.raises(ajc.NotPermitted, match=r"CHORIA_AJ\.Q\.MAY_NOT\.four"):
                _ = [found async for found in client.enqueue_many([repeated])]
        assert await admin.load("four") == task
        assert await item_of(admin, "MAY_NOT", "four")


async def test_a_repeated_enqueue_that_may_not_look_into_a_full_queue_leaves_the_queued_task(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "admin:a")) as admin:
        await admin.delete_queue("MAY")
        await admin.ensure_queue(ajc.Queue("MAY", max_entries=1))
        await admin.enqueue("email:new", id="other", queue="MAY")
        task = ajc.new_task("email:new", id="five", queue="MAY")  # new still: nobody served it, and it waits elsewhere
        await save_task(admin.connection, task, 0)
        async with ajc.connect(url(server, "some:s")) as client:
            with pytest.raises(ajc.NotPermitted, match=r"STREAM\.MSG\.GET\.CHORIA_AJ_Q_MAY"):
                await client.enqueue("email:new", id="five", queue="MAY")
        assert await admin.load("five") == task


async def test_who_may_not_look_waits_for_a_leader_as_long_as_an_election_may_last(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "admin:a")) as admin, ajc.connect(url(server, "some:s")) as client:
        sent: list[Message] = []
        tap = await admin.connection.subscribe("CHORIA_AJ.T.*", sent.append)
        await admin.connection.flush()
        running = asyncio.create_task(client.enqueue("email:new", queue="LATE"))
        await until(lambda: sent)
        await tap.unsubscribe()
        await asyncio.wait([running], timeout=1)
        assert not running.done()
        # to who may not look, a stream that comes late is one whose leader was elected late
        await admin.ensure_queue(ajc.Queue("LATE"))
        task = await running
        assert await admin.load(task.id) == task
        assert await item_of(admin, "LATE", task.id)


async def test_who_may_not_look_hears_of_a_missing_queue_in_the_end(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untaken, "LEADERLESS_SECONDS", 0.3)
    server = await served(make_server)
    async with ajc.connect(url(server, "some:s")) as client:
        with pytest.raises(ajc.NotFound, match="queue LATE") as found:
            await client.enqueue("email:new", id="six", queue="LATE")
        assert found.value.code == 0
        assert (await client.load("six")).state == "queue_error"
    # a task that was stored before is left as it is: its queue may be there after all
    async with ajc.connect(url(server, "admin:a")) as admin:
        task = ajc.new_task("email:new", id="seven", queue="LATE")
        await save_task(admin.connection, task, 0)
        async with ajc.connect(url(server, "some:s")) as client:
            with pytest.raises(ajc.NotFound, match="queue LATE"):
                await client.enqueue("email:new", id="seven", queue="LATE")
        assert await admin.load("seven") == task
        with pytest.raises(ajc.NotFound, match="queue LATE") as found:
            await admin.enqueue("email:new", id="seven", queue="LATE")
        assert found.value.code == 10059
        assert (await admin.load("seven")).state == "queue_error"


async def test_a_short_time_to_answer_does_not_make_a_queue_missing(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "some:s"), timeout=1.5) as client:
        with pytest.raises(ajc.Unavailable, match=r"LATE has no leader, or does not exist; .* enqueue it again"):
            await client.enqueue("email:new", id="eight", queue="LATE")
        assert (await client.load("eight")).state == "new"


async def test_many_enqueues_without_a_right_wait_for_no_answer(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue_many, "ANSWER_SECONDS", 600.0)
    server = await served(make_server)
    async with ajc.connect(url(server, "none:n")) as client:
        tasks = [ajc.new_task("email:new", queue="MAY") for _ in range(600)]
        refused = [error async for error in client.enqueue_many(tasks, return_errors=True)]
        assert [getattr(error, "subject", "") for error in refused] == [f"CHORIA_AJ.T.{task.id}" for task in tasks]
    async with ajc.connect(url(server, "some:s")) as client:
        tasks = [ajc.new_task("email:new", queue=name) for name in ("MAY", "MAY_NOT") * 300]
        stored, refused = [], []
        async for outcome in client.enqueue_many(tasks, return_errors=True):
            (refused if isinstance(outcome, ajc.NotPermitted) else stored).append(outcome)
        assert stored == tasks[::2]
        assert [getattr(error, "subject", "") for error in refused] == [
            f"CHORIA_AJ.Q.MAY_NOT.{task.id}" for task in tasks[1::2]
        ]
        assert (await client.load(tasks[1].id)).state == "queue_error"


async def test_a_result_that_may_not_be_read_is_not_waited_for(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "none:n")) as client:
        with pytest.raises(ajc.NotPermitted, match=r"STREAM\.MSG\.GET\.CHORIA_AJ_TASKS"):
            await client.result("any", timeout=20)


@pytest.mark.parametrize(
    ("who", "subject"), [("none:n", r"STREAM\.MSG\.GET\.CHORIA_AJ_TASKS"), ("reader:r", r"CHORIA_AJ\.T\.nine")]
)
async def test_a_task_that_may_not_be_changed_is_not_cancelled(make_server: Any, who: str, subject: str) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "admin:a")) as admin, ajc.connect(url(server, who)) as client:
        task = await admin.enqueue("email:new", id="nine", queue="MAY")
        with pytest.raises(ajc.NotPermitted, match=subject):
            await client.cancel("nine")
        assert await admin.load("nine") == task


async def test_a_cancel_that_may_not_take_the_item_away_tells_whoever_runs_it_and_says_so(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "admin:a")) as admin, ajc.connect(url(server, "some:s")) as client:
        heard: list[Message] = []
        await admin.connection.subscribe("ajc.cancel.*", heard.append)
        await admin.connection.flush()
        await admin.enqueue("email:new", id="ten", queue="MAY")
        with pytest.raises(ajc.NotPermitted, match=r"STREAM\.MSG\.GET\.CHORIA_AJ_DELAY"):
            await client.cancel("ten", "no longer wanted")
        assert (await admin.load("ten")).state == "terminated"
        assert await item_of(admin, "MAY", "ten")
        await until(lambda: heard)
        assert (heard[0].subject, heard[0].body) == ("ajc.cancel.ten", b"no longer wanted")


async def test_a_retry_without_the_right_to_the_queue_says_so_in_the_record(make_server: Any) -> None:
    server = await served(make_server)
    async with ajc.connect(url(server, "admin:a")) as admin, ajc.connect(url(server, "retrier:t")) as client:
        task = ajc.new_task("email:new", id="eleven", queue="MAY").replace(state="terminated")
        await save_task(admin.connection, task, 0)
        with pytest.raises(ajc.NotPermitted, match=r"CHORIA_AJ\.Q\.MAY\.eleven"):
            await client.retry("eleven")
        found = await admin.load("eleven")
        assert found.state == "queue_error"  # a retry without an item would be found, and queued all the same
        assert "no permission to publish on CHORIA_AJ.Q.MAY.eleven" in found.last_err
