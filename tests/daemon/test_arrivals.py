"""The table of arrivals, seen from outside: an item meets a record, and the streams say what came of it."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
import pytest
from outside import MINUTE, SECOND, new_id
from scripted_responder import done, failed

from ajc.instant import Instant
from ajc.task import Task

row = pytest.mark.row
ACTIVE_FIRST = "active, first delivery of this item, younger (server's time of the revision) than the run time"
ACTIVE_OTHERWISE = "active otherwise (redelivered: the server itself ended the earlier lease)"
FINAL = "expired, terminated, queue_error, unreachable"


@row("no record; asked of the leader too")
async def test_an_item_without_a_record_is_dropped_with_a_warning(site):
    async with site.world() as world:
        name = "choria_asyncjobs_queue_task_not_found_error_count"
        before = world.bridge.metric(name, queue="MAIN")
        task_id = new_id()
        await world.put_item("MAIN", task_id)
        await world.until_gone("MAIN", task_id)
        line = await world.bridge.log("item.dropped", task_id=task_id)
        assert (line["level"], line["reason"]) == ("warn", "no_record")
        assert world.bridge.metric(name, queue="MAIN") >= before + 1
        assert await world.letter("MAIN", task_id) is None


@row("item body cannot be decoded")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\x00not json",
        b"[]",
        b'{"kind":0}',
        b'{"job":""}',
        b'{"job":7}',
        b'{"job":"a.b"}',
        b'{"job":"*"}',
        b'{"job":"a b"}',
    ],
)
async def test_an_item_that_names_no_task_is_a_dead_letter(site, body):
    async with site.world() as world:
        task_id = new_id()
        await world.put_item("MAIN", task_id, body)
        headers, letter = await world.until_letter("MAIN", task_id)
        await world.until_gone("MAIN", task_id)
        assert headers.get("AJ-Dlq-Reason") == "malformed_item"
        assert headers.get("AJ-Task-Id") == task_id
        assert letter == body


@row("item body cannot be decoded")
async def test_the_id_is_the_subjects_last_token_and_hashed_where_it_is_none(site):
    async with site.world() as world:
        token = "näme!" + new_id()
        await world.put_item("MAIN", f"more.tokens.{token}", b"junk")
        hashed = "sha256-" + hashlib.sha256(token.encode()).hexdigest()[:16]
        headers, letter = await world.until_letter("MAIN", hashed)
        assert letter == b"junk"
        assert headers.get("AJ-Task-Id") == token
        await world.until_gone("MAIN", f"more.tokens.{token}")


async def test_the_items_body_says_which_task_and_its_subject_does_not(site, kind):
    async with site.world() as world:
        await world.serve(kind, [done()])
        task = world.task(kind)
        await world.save(task.id, task.encode())
        other = new_id()
        await world.put_item("MAIN", other, b'{"job":"%b","kind":3,"more":[1]}' % task.id.encode())
        await world.until_state(task.id, "complete")
        await world.until_gone("MAIN", other)


async def test_an_item_whose_own_headers_look_like_a_status_is_an_item(site, kind):
    async with site.world() as world:
        await world.serve(kind, [done()])
        task = world.task(kind)
        await world.save(task.id, task.encode())
        await world.put_item("MAIN", task.id, headers=b"NATS/1.0\r\nStatus: 404\r\nDescription: No Messages\r\n\r\n")
        await world.settled(task, "complete")


@row("record cannot be decoded, or has no usable type (grammar, length)")
@pytest.mark.parametrize(
    "data", [b"", b"\x00\xff", b"{}", b"[]", b'{"id":7}', b'{"id":"other","type":"x","state":"new"}', b"{" * 5000]
)
async def test_a_record_that_cannot_be_decoded_is_a_dead_letter(site, data):
    async with site.world() as world:
        task_id = new_id()
        revision = await world.save(task_id, data)
        await world.put_item("MAIN", task_id)
        headers, letter = await world.until_letter("MAIN", task_id)
        await world.until_gone("MAIN", task_id)
        assert headers.get("AJ-Dlq-Reason") == "malformed_task"
        assert letter == data
        assert (await world.record(task_id)).revision == revision
        assert world.events(task_id) == []
        await world.bridge.log("task.dead_lettered", task_id=task_id, level="warn")


@row("record cannot be decoded, or has no usable type (grammar, length)")
@pytest.mark.parametrize(
    "type_", ["", "a.b", "*", ">", "a.>", "a b", "tab\there", "new\r\nline", "x" * 129, "naïve", "$JS.API.INFO", "\x00"]
)
@pytest.mark.rule("EXEC-3")
async def test_an_illegal_type_is_terminated_and_makes_no_subject(site, type_):
    async with site.world() as world:
        seen: list[str] = []
        await world.connection.subscribe("ajc.exec.>", lambda message: seen.append(message.body.decode()))
        await world.connection.flush()
        task = world.task("placeholder").replace(type=type_)
        await world.enqueue(task)
        found = await world.settled(task, "terminated")
        assert found.last_err.startswith("invalid task type ")
        assert found.tries == 0
        assert found.type == type_
        headers, letter = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == "invalid_type"
        assert letter == (await world.record(task.id)).data
        assert not [body for body in seen if task.id in body]


@row("complete")
async def test_a_complete_task_only_loses_its_item(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = world.task(kind, state="complete", tries=1)
        revision = await world.save(task.id, task.encode())
        await world.put_item("MAIN", task.id)
        await world.until_gone("MAIN", task.id)
        assert (await world.record(task.id)).revision == revision
        assert responder.requests == []
        assert world.events(task.id) == []
        assert await world.letter("MAIN", task.id) is None


@row(FINAL)
@pytest.mark.parametrize(
    ("state", "stored", "reason"),
    [
        ("expired", "deadline", "deadline"),
        ("expired", "", "tries"),
        ("terminated", "", "terminated"),
        ("terminated", "result_too_large", "result_too_large"),
        ("queue_error", "", "queue_error"),
        ("unreachable", "", "unreachable"),
    ],
)
async def test_a_final_task_gets_its_dead_letter_again_and_nothing_else(site, kind, state, stored, reason):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = world.task(kind, state=state, tries=3, last_err="why", dead_letter=stored)
        revision = await world.save(task.id, task.encode())
        await world.put_item("MAIN", task.id)
        headers, letter = await world.until_letter("MAIN", task.id)
        await world.until_gone("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == reason
        assert headers.get("AJ-Dlq-Tries") == "3"
        assert headers.get("AJ-Dlq-Error") == "why"
        record = await world.record(task.id)
        assert record.revision == revision
        assert letter == record.data
        assert world.events(task.id) == []
        assert responder.requests == []


@row(FINAL)
async def test_a_final_tasks_dead_letter_doubles_nothing(site, kind):
    async with site.world() as world:
        await world.serve(kind, [failed("boom")])
        task = await world.run(kind, max_tries=1)
        await world.settled(task, "expired")
        first, _ = await world.until_letter("MAIN", task.id)
        await world.put_item("MAIN", task.id)
        await world.until_gone("MAIN", task.id)
        again, _ = await world.until_letter("MAIN", task.id)
        names = ("AJ-Dlq-Reason", "AJ-Dlq-Error", "AJ-Dlq-Tries", "AJ-Task-Id", "AJ-Task-Type", "AJ-Queue")
        assert [again.get(name) for name in names] == [first.get(name) for name in names]
        held = await world.connection.api(
            "STREAM.INFO.CHORIA_AJ_DLQ", {"subjects_filter": f"CHORIA_AJ.DLQ.MAIN.{task.id}"}
        )
        assert held["state"]["subjects"] == {f"CHORIA_AJ.DLQ.MAIN.{task.id}": 1}


@row(FINAL)
async def test_a_cancelled_task_has_no_dead_letter(site, kind):
    async with site.world() as world:
        task = world.task(kind, state="terminated", last_err="cancelled: no", cancelled=Instant.now())
        await world.enqueue(task)
        await world.until_gone("MAIN", task.id)
        assert await world.letter("MAIN", task.id) is None


@row(ACTIVE_FIRST)
async def test_a_task_that_is_active_elsewhere_waits_one_lease(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = world.task(kind, state="active", tries=1, tried=Instant.now())
        revision = await world.save(task.id, task.encode())
        before = Instant.now()
        await world.put_item("MAIN", task.id)
        schedule = await world.until_schedule("MAIN", task.id)
        assert 9 * SECOND < schedule.at - before < 20 * SECOND  # MAIN's lease is 10 s
        assert (await world.record(task.id)).revision == revision
        assert responder.requests == []


@row(ACTIVE_OTHERWISE)
async def test_an_active_record_older_than_the_run_time_is_abandoned(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        left = world.task(kind, queue="SHORT", state="active", tries=1, tried=Instant.now())
        used_up = world.task(kind, queue="SHORT", state="active", tries=1, max_tries=1, tried=Instant.now())
        for task in (left, used_up):
            await world.save(task.id, task.encode())
        await asyncio.sleep(1.1)  # the run time of SHORT, by the server's clock
        for task in (left, used_up):
            await world.put_item("SHORT", task.id)
        found = await world.settled(left, "complete")
        assert found.tries == 2
        found = await world.settled(used_up, "expired")
        assert found.tries == 1
        headers, _ = await world.until_letter("SHORT", used_up.id)
        assert headers.get("AJ-Dlq-Reason") == "tries"
        assert [request.task.id for request in responder.requests] == [left.id]


@row("retry with `next_try_at` more than 250 ms away")
async def test_a_retry_that_is_not_due_gets_its_schedule_again(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        due = Instant.now().plus(10 * MINUTE)
        task = world.task(kind, state="retry", tries=1, last_err="boom", next_try_at=due)
        revision = await world.save(task.id, task.encode())
        await world.put_item("MAIN", task.id)
        schedule = await world.until_schedule("MAIN", task.id)
        assert schedule.at == due
        assert (await world.record(task.id)).revision == revision
        assert responder.requests == []


@row("past the task's deadline")
@pytest.mark.parametrize(
    ("state", "last_err", "said"),
    [("new", "", "deadline passed"), ("retry", "boom", "boom"), ("blocked", "", "deadline passed")],
)
async def test_a_task_past_its_deadline_expires(site, kind, state, last_err, said):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        deadline = Instant.now().plus(-SECOND)
        task = await world.run(kind, state=state, tries=1, last_err=last_err, deadline=deadline)
        found = await world.settled(task, "expired")
        assert (found.tries, found.last_err) == (1, said)
        headers, letter = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == "deadline"
        assert letter == (await world.record(task.id)).data
        assert responder.requests == []
        await world.until_events(task.id, ["expired"])


@row("tries at the cap")
@pytest.mark.parametrize(
    ("queue", "tries", "max_tries"), [("MAIN", 4, 4), ("MAIN", 9, 4), ("CAP2", 2, 10), ("CAP2", 2, 0)]
)
async def test_a_task_whose_tries_are_used_up_expires(site, kind, queue, tries, max_tries):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = await world.run(kind, queue=queue, state="retry", tries=tries, max_tries=max_tries, last_err="boom")
        found = await world.settled(task, "expired")
        assert (found.tries, found.last_err) == (tries, "boom")
        headers, _ = await world.until_letter(queue, task.id)
        assert headers.get("AJ-Dlq-Reason") == "tries"
        assert responder.requests == []


@row("tries at the cap")
@pytest.mark.parametrize("max_tries", [0, -1])
async def test_zero_or_negative_tries_are_no_limit(site, kind, max_tries):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = await world.run(kind, tries=50, max_tries=max_tries, state="retry")
        assert (await world.settled(task, "complete")).tries == 51
        assert responder.last.header("AJ-Max-Tries") == "0"


@row("blocked")
async def test_a_blocked_task_waits_five_seconds(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        task = world.task(kind, state="blocked", dependencies=(new_id(),))
        revision = await world.save(task.id, task.encode())
        before = Instant.now()
        await world.put_item("MAIN", task.id)
        schedule = await world.until_schedule("MAIN", task.id)
        assert 4 * SECOND < schedule.at - before < 15 * SECOND
        assert (await world.record(task.id)).revision == revision
        assert responder.requests == []


@row("a state nobody knows")
async def test_an_unknown_state_waits_untouched_and_is_warned_of_once(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        word = f"later-{kind}"
        tasks = [world.task(kind, state=word) for _ in range(2)]
        for task in tasks:
            revision = await world.save(task.id, task.encode())
            await world.put_item("MAIN", task.id)
            schedule = await world.until_schedule("MAIN", task.id)
            assert schedule.item.waits == 1
            assert schedule.at - Instant.now() < 6 * SECOND
            assert (await world.record(task.id)).revision == revision
        await world.put_item("MAIN", tasks[0].id, b'{"kind":0,"job":"%b","waits":40}' % tasks[0].id.encode())
        schedule = await world.until_waits("MAIN", tasks[0].id, 41)
        assert 4 * MINUTE < schedule.at - Instant.now() <= 5 * MINUTE
        assert len(world.bridge.logs("task.unknown_state", state=word, level="warn")) == 1
        assert responder.requests == []


@row('new, retry that is due, `""`')
@pytest.mark.parametrize(
    ("state", "next_try_in"), [("new", None), ("", None), ("retry", None), ("retry", -SECOND), ("retry", SECOND // 10)]
)
async def test_what_is_due_runs(site, kind, state, next_try_in):
    async with site.world() as world:
        responder = await world.serve(kind, [done()])
        due = None if next_try_in is None else Instant.now().plus(next_try_in)
        task = await world.run(kind, state=state, tries=2, next_try_at=due, last_err="boom")
        found = await world.settled(task, "complete")
        assert found.tries == 3
        active = responder.last.task
        assert (active.state, active.tries, active.last_err, active.next_try_at) == ("active", 3, "", None)


async def test_what_we_do_not_know_of_a_record_survives(site, kind):
    async with site.world() as world:
        await world.serve(kind, [done()])
        task = world.task(kind)
        data = (
            task.encode()[:-1]
            + b',"future":{"n":12345678901234567890,"f":1.10},"deadline":"2150-01-01T02:00:00.123456789+02:00"}'
        )
        await world.save(task.id, data)
        await world.put_item("MAIN", task.id)
        await world.until_state(task.id, "complete")
        stored = (await world.record(task.id)).data
        assert b'"future":{"n":12345678901234567890,"f":1.10}' in stored
        assert b'"2150-01-01T02:00:00.123456789+02:00"' in stored


@pytest.mark.rule("EXEC-4")
@pytest.mark.rule("EXEC-8")
async def test_the_request_is_the_stored_active_revision_byte_for_byte(site, kind):
    async with site.world() as world:
        held: list[bytes] = []
        responder = await world.serve(kind, [None])
        task = await world.run(kind, deadline=Instant.now().plus(MINUTE), max_tries=7)
        await world.asked(responder)
        held.append((await world.record(task.id)).data)
        request = responder.last
        responder.send(request, done())
        assert request.body == held[0]
        assert Task.decode(request.body).tries == 1
        names = ("AJ-Content-Type", "AJ-Protocol", "AJ-Task-Id", "AJ-Task-Type", "AJ-Queue", "AJ-Try", "AJ-Max-Tries")
        assert [request.header(name) for name in names] == [
            "application/x-asyncjobs-task+json", "1", task.id, kind, "MAIN", "1", "7",
        ]  # fmt: skip
        assert 0 < int(request.header("AJ-Timeout-Ms")) <= 28_000  # a run time of 30 s, without 2 s
        await world.settled(task, "complete")


@row("When a task's `queue` differs from the queue that held its item, the item's queue counts")
async def test_the_items_queue_counts_and_the_tasks_field_is_kept(site, kind):
    async with site.world() as world:
        responder = await world.serve(kind, [failed("boom")])
        task = world.task(kind, queue="ELSEWHERE", max_tries=0)
        await world.enqueue(task, "CAP2")
        found = await world.settled(task, "expired", queue="CAP2")
        assert (found.queue, found.tries) == ("ELSEWHERE", 2)
        assert responder.last.header("AJ-Queue") == "CAP2"
        headers, _ = await world.until_letter("CAP2", task.id)
        assert headers.get("AJ-Queue") == "CAP2"
        assert [event.queue for event in world.events(task.id)][-1] in {"CAP2", "ELSEWHERE"}


async def test_ten_thousand_levels_of_json_harm_nobody(site, kind):
    async with site.world() as world:
        await world.serve(kind, [done()])
        for data in (b'{"a":' * 10_000, b"[" * 60_000):
            task_id = new_id()
            await world.save(task_id, data)
            await world.put_item("MAIN", task_id)
            await world.put_item("MAIN", new_id(), data)
            await world.until_letter("MAIN", task_id)
        task = await world.run(kind)
        await world.settled(task, "complete")
        assert msgspec.json.decode((await world.record(task.id)).data)["state"] == "complete"
