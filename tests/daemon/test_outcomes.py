"""The table of outcomes, seen from outside: what a reply leaves in the store, the streams, the events and the metrics.

Every test runs on the fast client and on nats-py's public interface.
"""

from __future__ import annotations

import base64

import pytest
from outside import MINUTE, SECOND
from scripted_responder import Reply, busy, done, failed, raw, terminated

from ajc.instant import Instant
from ajc.task import Task

row = pytest.mark.row


def payload_of(task: Task) -> bytes:
    assert task.result is not None
    return task.result.data


@row('result (any reply that no rule below matches; an empty body is a result: `""`)')
@pytest.mark.rule("EXEC-10")
async def test_a_result_completes_the_task(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [done(b"\x00\xffbytes")])
        task = await world.run(kind)
        found = await world.settled(task, "complete")
        assert found.tries == 1
        assert found.last_err == ""
        assert payload_of(found) == b"\x00\xffbytes"
        assert found.tried is not None
        assert found.result.completed >= found.tried
        assert found.created == task.created
        assert responder.last.task.state == "active"
        assert await world.letter("MAIN", task.id) is None
        assert await world.schedule("MAIN", task.id) is None
        await world.until_events(task.id, ["active", "complete"])
        assert [event.tries for event in world.events(task.id)] == [1, 1]
        assert world.events(task.id)[0].queue == "MAIN"
        assert world.bridge.metric("ajc_bridge_attempts_total", type=kind, outcome="succeeded") == 1
        assert world.bridge.metric("choria_asyncjobs_handler_runtime_count", type=kind, queue="MAIN") == 1


@row('result (any reply that no rule below matches; an empty body is a result: `""`)')
@pytest.mark.rule("EXEC-10")
async def test_an_empty_reply_is_the_empty_text(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [done(b"")])
        task = await world.run(kind)
        found = await world.settled(task, "complete")
        assert bytes(found.result.payload) == b'""'


@row('result (any reply that no rule below matches; an empty body is a result: `""`)')
@pytest.mark.parametrize(
    "lines", [["X-Other: 1"], ["AJ-Error:", "AJ-Terminate:   ", "AJ-Busy: "], ["AJ-Retry-After-Ms: 50"]]
)
@pytest.mark.rule("EXEC-5")
@pytest.mark.rule("EXEC-6")
async def test_other_headers_and_blank_values_are_a_result(either_site, kind, lines):
    async with either_site.world() as world:
        await world.serve(kind, [raw(*lines, body=b"fine")])
        task = await world.run(kind)
        assert payload_of(await world.settled(task, "complete")) == b"fine"


@row('result (any reply that no rule below matches; an empty body is a result: `""`)')
async def test_a_success_removes_the_last_error(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [failed("boom", 300), done()])
        task = await world.run(kind)
        found = await world.settled(task, "complete")
        assert (found.tries, found.last_err, found.next_try_at) == (2, "", None)


@row("`AJ-Terminate`")
@pytest.mark.rule("EXEC-13")
@pytest.mark.rule("EXEC-17")
async def test_terminate_ends_the_task_with_a_dead_letter(either_site, kind):
    async with either_site.world() as world:
        await world.serve(
            kind, [raw("aj-terminate: no such customer", "AJ-Error: also", "AJ-Busy: also", "AJ-Retry-After-Ms: 5")]
        )
        task = await world.run(kind)
        found = await world.settled(task, "terminated")
        assert (found.tries, found.last_err) == (1, "no such customer")
        headers, body = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == "terminated"
        assert body == (await world.record(task.id)).data
        assert await world.schedule("MAIN", task.id) is None
        assert world.bridge.metric("ajc_bridge_attempts_total", type=kind, outcome="terminated") == 1


@row("`AJ-Error`, `Nats-Service-Error`, tries left")
@pytest.mark.parametrize("name", ["AJ-Error", "Nats-Service-Error", "aj-ERROR"])
@pytest.mark.rule("EXEC-11")
@pytest.mark.rule("EXEC-17")
async def test_an_error_is_a_retry_by_the_queues_policy(either_site, kind, name):
    async with either_site.world() as world:
        await world.serve(kind, [raw(f"{name}: boom", body=b"ignored")])
        task = await world.run(kind, queue="SLOW")
        found = await world.settled(task, "retry")
        assert (found.tries, found.last_err, found.result) == (1, "boom", None)
        schedule = await world.until_schedule("SLOW", task.id)
        assert schedule.at == found.next_try_at
        assert schedule.item.task_id == task.id
        assert 59 * MINUTE < found.next_try_at - found.tried < 62 * MINUTE
        assert await world.letter("SLOW", task.id) is None
        await world.until_events(task.id, ["active", "retry"])
        assert world.events(task.id)[-1].last_error == "boom"
        assert world.bridge.metric("choria_asyncjobs_handler_error_total", type=kind, queue="SLOW") == 1


@row("`AJ-Error`, `Nats-Service-Error`, tries left")
async def test_a_retry_runs_again_when_it_is_due(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [failed(), failed(), done()])
        task = await world.run(kind)  # MAIN retries after 300 ms
        found = await world.settled(task, "complete")
        assert found.tries == 3
        assert [request.task.tries for request in responder.requests] == [1, 2, 3]
        assert [request.header("AJ-Try") for request in responder.requests] == ["1", "2", "3"]
        assert all(
            later.at - earlier.at > 0.25
            for earlier, later in zip(responder.requests, responder.requests[1:], strict=False)
        )
        assert all(request.task.next_try_at is None for request in responder.requests)
        assert all(request.task.last_err == "" for request in responder.requests)
        await world.until_events(task.id, ["active", "retry", "active", "retry", "active", "complete"])


@row("the same, none left")
async def test_an_error_on_the_last_try_expires(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [failed("first"), failed("last")])
        task = await world.run(kind, max_tries=2)
        found = await world.settled(task, "expired")
        assert (found.tries, found.last_err, found.next_try_at) == (2, "last", None)
        headers, body = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == "tries"
        assert body == (await world.record(task.id)).data
        assert len(responder.requests) == 2
        assert await world.schedule("MAIN", task.id) is None


@row("the same, none left")
async def test_the_queues_cap_counts_where_it_is_smaller(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [failed("first"), failed("last")])
        task = await world.run(kind, queue="CAP2", max_tries=10)
        assert (await world.settled(task, "expired")).tries == 2
        assert [request.header("AJ-Max-Tries") for request in responder.requests] == ["2", "2"]


@row("timed out")
async def test_no_reply_in_time_is_an_error(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="SHORT")
        found = await world.settled(task, "retry")
        assert (found.tries, found.last_err) == (1, "no reply within 900ms")
        assert await world.until_schedule("SHORT", task.id)
        assert world.bridge.metric("ajc_bridge_attempts_total", type=kind, outcome="timed_out") == 1
        assert len(responder.requests) == 1


@row("timed out")
@pytest.mark.rule("EXEC-37")
async def test_a_late_reply_changes_nothing_and_is_counted(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="SHORT")
        await world.settled(task, "retry")
        before = await world.record(task.id)
        late = world.bridge.metric("ajc_bridge_replies_total", kind="late")
        responder.send(responder.last, done(b"too late"))
        await world.until_metric("ajc_bridge_replies_total", late + 1, kind="late")
        assert (await world.record(task.id)).revision == before.revision


@row("timed out")
async def test_a_deadline_that_comes_during_the_attempt_expires_the_task_at_once(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [None])
        deadline = Instant.now().plus(2 * SECOND)
        task = await world.run(kind, deadline=deadline)
        found = await world.settled(task, "expired")
        assert found.tries == 1
        assert found.last_err.startswith("no reply within 1")
        headers, _ = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == "deadline"
        ends = Instant.parse(responder.last.header("AJ-Handler-Deadline"))
        assert ends < deadline
        assert int(responder.last.header("AJ-Timeout-Ms")) < 2000


@row("reply that cannot be parsed (a header block that is none, a status other than 503)")
@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"", b"NATS/1.0 404 Not Found\r\n\r\n"),
        Reply(b"body", b"NATS/1.0 200\r\n\r\n"),
        raw("no colon here"),
        raw("AJ-Error: x", first=b"HTTP/1.1"),
        raw("", "", first=b"\x00\xff\xfe"),
    ],
    ids=["404", "200", "no-colon", "http", "binary"],
)
@pytest.mark.rule("EXEC-17")
async def test_a_reply_that_cannot_be_parsed_is_an_error(either_site, kind, reply):
    async with either_site.world() as world:
        await world.serve(kind, [reply])
        task = await world.run(kind, queue="SLOW")
        found = await world.settled(task, "retry")
        assert found.tries == 1
        assert found.last_err.startswith("malformed reply: ")
        assert world.bridge.metric("ajc_bridge_attempts_total", type=kind, outcome="malformed") == 1


@row("result does not fit")
@pytest.mark.rule("EXEC-18")
async def test_a_result_that_does_not_fit_is_final(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [done(b"x" * 60_000)])  # base64 makes 80,000 of it, and 65,536 fit
        task = await world.run(kind)
        found = await world.settled(task, "terminated")
        assert found.tries == 1
        assert found.last_err.startswith("result of 60000 bytes exceeds ")
        headers, body = await world.until_letter("MAIN", task.id)
        assert headers.get("AJ-Dlq-Reason") == "result_too_large"
        assert body == (await world.record(task.id)).data


@row("active save or request does not fit")
async def test_a_task_that_fits_the_store_but_no_request_is_terminated_uncounted(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [done()])
        task = world.task(kind, payload=b"")
        room = 65_536 - 70 - len(task.encode())
        task = await world.enqueue(task.replace(payload=b"y" * (room // 4 * 3)))
        letter, body = await world.until_letter("MAIN", task.id)
        await world.until_gone("MAIN", task.id)
        assert letter.get("AJ-Dlq-Reason") == "task_too_large"
        found = await world.load(task.id)
        assert found.tries == 0
        assert found.state in {"new", "terminated"}  # terminated where that fits
        if found.state == "terminated":
            assert found.last_err.startswith("task of ")
        assert body in {b"", (await world.record(task.id)).data}
        assert responder.requests == []


@row("active save or request does not fit")
async def test_a_task_that_fits_with_its_end_but_not_with_its_request_is_terminated(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [done()])
        task = world.task(kind, payload=b"")
        room = 65_536 - 560 - len(task.encode())
        task = await world.enqueue(task.replace(payload=b"y" * (room // 4 * 3)))
        found = await world.settled(task, "terminated")
        assert found.tries == 0
        assert found.last_err.startswith("task of ")
        letter, body = await world.until_letter("MAIN", task.id)
        assert letter.get("AJ-Dlq-Reason") == "task_too_large"
        assert body in {b"", (await world.record(task.id)).data}
        assert responder.requests == []


@row("nobody there (503)")
@pytest.mark.rule("EXEC-40")
async def test_nobody_there_parks_the_task_until_somebody_comes(either_site, kind):
    async with either_site.world() as world:
        before = world.bridge.metric("ajc_bridge_parked", type=kind)
        task = await world.run(kind)
        found = await world.until_state(task.id, "new")
        schedule = await world.until_schedule("MAIN", task.id)
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, f"no responder on ajc.exec.{kind}")
        assert found.next_try_at == schedule.at
        assert schedule.item.waits >= 1
        assert await world.item("MAIN", task.id) is None
        assert before == 0
        assert world.bridge.metric("ajc_bridge_parked", type=kind, queue="MAIN") == 1
        assert world.bridge.metric("choria_asyncjobs_handler_error_total", type=kind) == 0
        second = await world.until_waits("MAIN", task.id, 2)
        assert second.at - schedule.at > 2 * SECOND  # 1 s, then 2 s
        responder = await world.serve(kind, [done()])
        found = await world.settled(task, "complete")
        assert (found.tries, found.last_err) == (1, "")
        assert responder.last.header("AJ-Try") == "1"
        await world.until_metric("ajc_bridge_parked", 0, type=kind, queue="MAIN")


@row("nobody there (503)")
async def test_nobody_there_after_a_failure_leaves_a_retry_as_it_was(either_site, kind):
    async with either_site.world() as world:
        task = world.task(kind, state="retry", tries=3, last_err="boom")
        await world.enqueue(task)
        await world.until_schedule("MAIN", task.id)
        found = await world.load(task.id)
        assert (found.state, found.tries) == ("retry", 3)


@row("`AJ-Busy`")
@pytest.mark.rule("EXEC-39")
async def test_busy_is_asked_again_at_once_then_room_is_searched_for_and_then_it_is_parked(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [busy("all ten at work")])
        task = await world.run(kind)
        await world.until_schedule("MAIN", task.id)
        assert len(responder.requests) > 3
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "all ten at work")
        assert {request.header("AJ-Try") for request in responder.requests} == {"1"}
        assert world.bridge.metric("choria_asyncjobs_handler_error_total", type=kind) == 0


@row("`AJ-Busy`")
async def test_busy_once_then_done(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [busy(), done()])
        task = await world.run(kind)
        assert (await world.settled(task, "complete")).tries == 1
        assert len(responder.requests) == 2


@row("`AJ-Busy`")
@pytest.mark.rule("EXEC-15")
@pytest.mark.rule("EXEC-39")
async def test_busy_that_says_when_is_asked_once_and_then_then(either_site, kind):
    async with either_site.world() as world:
        responder = await world.serve(kind, [busy("later", 3_600_000)])
        task = await world.run(kind)
        schedule = await world.until_schedule("MAIN", task.id)
        assert len(responder.requests) == 1
        assert 59 * MINUTE < schedule.at - Instant.now() < 61 * MINUTE


@row("Retry-after: a non-negative integer of milliseconds, at most 30 days (clamped)")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7200000", 7200), ("0", 0), ("99999999999999999999", 30 * 86_400), (" 7200000 ", 7200)],
)
@pytest.mark.rule("EXEC-15")
async def test_retry_after_takes_the_place_of_the_backoff(either_site, kind, value, seconds):
    async with either_site.world() as world:
        await world.serve(kind, [raw("AJ-Error: later", f"AJ-Retry-After-Ms: {value}"), done()])
        task = await world.run(kind, queue="SLOW")
        if seconds == 0:
            assert (await world.settled(task, "complete")).tries == 2
            return
        schedule = await world.until_schedule("SLOW", task.id)
        found = await world.load(task.id)
        assert abs(schedule.at - found.tried - seconds * SECOND) < 20 * SECOND


@row("Retry-after: a non-negative integer of milliseconds, at most 30 days (clamped)")
@pytest.mark.parametrize("value", ["-1", "1.5", "soon", "0x10", "1e3", "٣"])
async def test_retry_after_that_is_none_is_ignored_with_a_metric(either_site, kind, value):
    async with either_site.world() as world:
        before = world.bridge.metric("ajc_bridge_retry_after_ignored_total")
        await world.serve(kind, [raw("AJ-Error: later", f"AJ-Retry-After-Ms: {value}")])
        task = await world.run(kind, queue="SLOW")
        schedule = await world.until_schedule("SLOW", task.id)
        assert schedule.at - Instant.now() > 59 * MINUTE
        assert world.bridge.metric("ajc_bridge_retry_after_ignored_total") >= before + 1


@row("the schedule is never later than the task's deadline, so that it expires on time")
async def test_a_retry_beyond_the_deadline_comes_at_the_deadline_and_expires(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [failed("boom")])
        deadline = Instant.now().plus(3 * SECOND)
        task = await world.run(kind, queue="SLOW", deadline=deadline)
        found = await world.settled(task, "retry", "expired")
        if found.state == "retry":
            assert found.next_try_at == deadline
        found = await world.settled(task, "expired")
        assert (found.tries, found.last_err) == (1, "boom")
        headers, _ = await world.until_letter("SLOW", task.id)
        assert headers.get("AJ-Dlq-Reason") == "deadline"


@row("Texts: invalid UTF-8 becomes U+FFFD, control characters are removed, 4,096 bytes at most")
@pytest.mark.rule("EXEC-16")
async def test_texts_are_cleaned(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [raw(b"AJ-Error: bad \xff bytes\x1b[31m\x07 tab\there \xc3\xa9")])
        task = await world.run(kind, queue="SLOW")
        found = await world.settled(task, "retry")
        assert found.last_err == "bad \ufffd bytes[31m tab\there é"


@row("Texts: invalid UTF-8 becomes U+FFFD, control characters are removed, 4,096 bytes at most")
@pytest.mark.rule("EXEC-16")
async def test_long_texts_are_cut(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [raw("AJ-Error: " + "é" * 5000)])
        task = await world.run(kind, queue="SLOW")
        found = await world.settled(task, "retry")
        assert len(found.last_err.encode()) <= 4096
        assert found.last_err.endswith("é…")


@row("Header names are compared without case, the first value that is not empty counts")
@pytest.mark.rule("EXEC-5")
async def test_the_first_value_that_is_not_empty_counts(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [raw("AJ-Error:", "AJ-ERROR: first", "aj-error: second")])
        task = await world.run(kind, queue="SLOW")
        assert (await world.settled(task, "retry")).last_err == "first"


@row("two replies to one request: the second changes nothing and is counted")
@pytest.mark.rule("EXEC-9")
@pytest.mark.rule("EXEC-37")
async def test_a_second_reply_is_counted(either_site, kind):
    async with either_site.world() as world:
        before = world.bridge.metric("ajc_bridge_replies_total", kind="duplicate")
        await world.serve(kind, [done(b"one", times=2)])
        task = await world.run(kind)
        found = await world.settled(task, "complete")
        assert payload_of(found) == b"one"
        await world.until_metric("ajc_bridge_replies_total", before + 1, kind="duplicate")
        assert world.bridge.logs("reply.ignored", kind="duplicate")


async def test_a_result_is_stored_as_base64_of_the_bytes(either_site, kind):
    async with either_site.world() as world:
        await world.serve(kind, [terminated("x"), done(b'{"a":1}')])
        first = await world.run(kind)
        await world.settled(first, "terminated")
        task = await world.run(kind)
        found = await world.settled(task, "complete")
        assert bytes(found.result.payload) == b'"' + base64.b64encode(b'{"a":1}') + b'"'
