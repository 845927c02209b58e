"""Requests that wait: each ends once, at its answer or at its own time, however many wait beside it."""

from __future__ import annotations

import asyncio

import pytest

from ajc.answers import Answer
from ajc.errors import NotPermitted, RequestTimeout, Unavailable
from ajc.request_table import RequestTable


async def test_each_answer_ends_the_request_that_it_is_for() -> None:
    table = RequestTable("_INBOX_t")
    opened = [table.open("a", 60, Answer) for _ in range(100)]
    assert len({inbox for inbox, _ in opened}) == len(table) == 100
    for number, (inbox, _) in reversed(list(enumerate(opened))):
        assert inbox.startswith(table.inbox.encode())
        table.answered(inbox, b"", b"%d" % number, None)
        table.answered(inbox, b"", b"again", None)
    assert [(await future).body for _, future in opened] == [b"%d" % number for number in range(100)]
    assert len(table) == 0
    table.stop()


async def test_a_request_ends_at_its_own_time_whatever_was_opened_before() -> None:
    table = RequestTable("_INBOX_t")
    inbox, long = table.open("long", 60, Answer)
    _, short = table.open("short", 0.02, Answer)
    _, shorter = table.open("shorter", 0.01, Answer)
    ended: list[str] = []
    short.add_done_callback(lambda _: ended.append("short"))
    shorter.add_done_callback(lambda _: ended.append("shorter"))
    with pytest.raises(RequestTimeout, match="short"):
        await short
    assert isinstance(shorter.exception(), RequestTimeout)
    assert ended == ["shorter", "short"]
    assert not long.done()
    table.answered(inbox, b"", b"late, but in time", None)
    assert (await long).body == b"late, but in time"
    table.stop()


async def test_what_was_given_up_is_no_request_and_its_answer_nothing() -> None:
    table = RequestTable("_INBOX_t")
    inbox, future = table.open("a", 60, Answer)
    other, forgotten = table.open("a", 60, Answer)
    future.cancel()
    table.forget(other)
    assert len(table) == 0
    table.answered(inbox, b"", b"x", None)
    table.answered(other, b"", b"x", None)
    assert not forgotten.done()
    table.stop()


async def test_what_reading_the_answer_raises_is_for_who_waits() -> None:
    table = RequestTable("_INBOX_t")

    def read(_body: bytes, _headers: bytes | None) -> None:
        raise ValueError("unreadable")

    inbox, future = table.open("a", 60, read)
    table.answered(inbox, b"", b"x", None)
    with pytest.raises(ValueError, match="unreadable"):
        await future
    table.stop()


async def test_many_answers_are_kept_until_the_status_that_ends_them() -> None:
    table = RequestTable("_INBOX_t")
    many: list[Answer] = []
    inbox, future = table.open("a", 60, Answer, many=many)
    for number in range(3):
        table.answered(inbox, b"", b"%d" % number, b"NATS/1.0\r\nA: 1\r\n\r\n")
    assert not future.done()
    table.answered(inbox, b"", b"", b"NATS/1.0 204 EOB\r\n\r\n")
    assert (await future).headers == b"NATS/1.0 204 EOB\r\n\r\n"
    assert [answer.body for answer in many] == [b"0", b"1", b"2"]
    table.stop()


async def test_a_broken_connection_fails_what_does_not_outlast_it() -> None:
    table = RequestTable("_INBOX_t")
    _, lost = table.open("a", 60, Answer)
    inbox, kept = table.open("a", 60, Answer, through_reconnect=True)
    table.fail(Unavailable("broken"), everything=False)
    with pytest.raises(Unavailable, match="broken"):
        await lost
    table.answered(inbox, b"", b"x", None)
    assert (await kept).body == b"x"
    table.stop()


async def test_a_refused_subject_fails_those_that_asked_on_it_in_any_case() -> None:
    table = RequestTable("_INBOX_t")
    _, refused = table.open("$JS.API.Info", 60, Answer)
    _, other = table.open("other", 60, Answer)
    table.refuse("$js.api.info")
    with pytest.raises(NotPermitted):
        await refused
    assert not other.done()
    other.cancel()
    table.stop()


async def test_a_request_that_is_opened_after_the_stop_still_ends() -> None:
    table = RequestTable("_INBOX_t")
    table.stop()
    _, future = table.open("a", 0.01, Answer)
    with pytest.raises(RequestTimeout):
        async with asyncio.timeout(30):
            await future
    table.stop()
