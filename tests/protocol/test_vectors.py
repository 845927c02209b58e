"""The golden vectors of docs/protocol/vectors against the readers of requests, of replies, and of beats."""

from __future__ import annotations

from typing import Any

import pytest
from documents import DOCS, cases, data

from ajc.errors import MalformedTask
from ajc.exchange import ExecReply, ExecRequest, read_reply
from ajc.headers import encode_headers, parse_headers
from ajc.instant import Instant
from ajc.progress import NOTHING_SAID, Progress, read_beat
from ajc.task import Task

REQUESTS, REPLIES = cases("requests"), cases("replies")
NOW = Instant.parse("2026-11-24T07:00:00Z")


def named(case: dict[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.rule("EXEC-4")
@pytest.mark.rule("EXEC-5")
@pytest.mark.rule("EXEC-6")
@pytest.mark.rule("EXEC-8")
@pytest.mark.parametrize("case", [case for case in REQUESTS if case["answer"] == "run"], ids=named)
def test_a_request_is_read(case: dict[str, Any]) -> None:
    read, body = case["read"], case["body"].encode()
    request = ExecRequest.decode(data(case["header_block_base64"]), body, now=NOW)
    assert request.task_id == read["id"]
    assert (request.type, request.queue) == (read["type"], read["queue"])
    assert (request.try_number, request.max_tries) == (read["try"], read["max_tries"])
    assert request.deadline == Instant.parse(read["deadline"])
    if read["timeout_ms"] is not None:
        assert request.timeout_ms == read["timeout_ms"]
    assert (request.heartbeat_subject, request.heartbeat_ms) == (read["heartbeat_subject"], read["heartbeat_ms"])
    assert (request.traceparent, request.tracestate) == (read["traceparent"], read["tracestate"])
    assert Task.decode(body).payload == data(read["payload_base64"])


@pytest.mark.rule("EXEC-8")
@pytest.mark.parametrize("case", [case for case in REQUESTS if case["written_by_bridge"]], ids=named)
def test_a_bridge_writes_exactly_these_requests(case: dict[str, Any]) -> None:
    read, body = case["read"], case["body"].encode()
    request = ExecRequest(
        task_id=read["id"],
        type=read["type"],
        queue=read["queue"],
        try_number=read["try"],
        max_tries=read["max_tries"],
        deadline=Instant.parse(read["deadline"]),
        timeout_ms=read["timeout_ms"],
        heartbeat_subject=read["heartbeat_subject"],
        heartbeat_ms=read["heartbeat_ms"],
        traceparent=read["traceparent"],
        tracestate=read["tracestate"],
    )
    assert request.headers() == data(case["header_block_base64"])
    assert Task.decode(body).encode() == body


def test_the_first_page_shows_the_first_vector_as_it_is() -> None:
    page = (DOCS / "protocol.md").read_text()
    block, body = data(REQUESTS[0]["header_block_base64"]), REQUESTS[0]["body"]
    assert block is not None
    assert f" {len(block)} {len(block) + len(body)}\n{block.decode().replace(chr(13), '')}{body[:80]}" in page


@pytest.mark.parametrize("case", [case for case in REQUESTS if case["answer"] == "error"], ids=named)
def test_a_request_that_cannot_be_read(case: dict[str, Any]) -> None:
    with pytest.raises(MalformedTask):
        Task.decode(case["body"].encode())


@pytest.mark.rule("EXEC-17")
@pytest.mark.rule("EXEC-5")
@pytest.mark.rule("EXEC-16")
@pytest.mark.parametrize("case", REPLIES, ids=named)
def test_a_reply_means_what_the_vector_says(case: dict[str, Any]) -> None:
    block, body, means = data(case["header_block_base64"]), data(case["body_base64"]), case["means"]
    assert body is not None
    reply = read_reply(block, body)
    assert reply.kind == means["kind"]
    if means["kind"] != "malformed":  # the words about what cannot be read are each reader's own
        assert reply.text == (means["text"] or "")
    assert (reply.retry_after_ms, reply.retry_after_bad) == (means["retry_after_ms"], means["retry_after_ignored"])
    if means["kind"] == "success":
        assert reply == ExecReply("success", body=body)


@pytest.mark.rule("EXEC-27")
@pytest.mark.parametrize("case", cases("beats"), ids=named)
def test_a_beat_means_what_the_vector_says(case: dict[str, Any]) -> None:
    wanted = {
        "beat": NOTHING_SAID,
        "progress": Progress(case["percent"], case["message"] or ""),
        "junk": None,
    }[case["means"]]
    assert read_beat(data(case["body_base64"]) or b"") == wanted


@pytest.mark.parametrize("case", REQUESTS + REPLIES, ids=named)
def test_pairs_and_block_say_the_same(case: dict[str, Any]) -> None:
    if case["headers"] is None:
        return
    block = data(case["header_block_base64"])
    assert block is not None
    pairs = [(name, value.strip(" \t")) for name, value in case["headers"]]
    assert list(parse_headers(block).items) == pairs
    assert parse_headers(encode_headers(pairs)).get("AJ-Task-Id") == parse_headers(block).get("AJ-Task-Id")


@pytest.mark.rule("EXEC-27")
@pytest.mark.parametrize("case", cases("beats"), ids=named)
def test_a_beat_is_read(case: dict[str, Any]) -> None:
    said = read_beat(data(case["body_base64"]) or b"")
    if case["means"] == "junk":
        assert said is None
    else:
        assert said == Progress(case["percent"], case["message"] or "")
        assert (said == NOTHING_SAID) == (case["means"] == "beat")
