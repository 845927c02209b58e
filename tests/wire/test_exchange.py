"""The exec protocol: what responders answered to Go means the same here; requests and replies of our own survive."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc.errors import MalformedRequest
from ajc.exchange import (
    LONGEST_RETRY_AFTER_MS,
    LONGEST_TEXT,
    ExecReply,
    ExecRequest,
    clean_text,
    read_reply,
    reply_headers,
)
from ajc.headers import parse_headers
from ajc.instant import Instant
from ajc.task import Result, Task

VECTORS = Path(__file__).parent.parent / "vectors"
CASES = [json.loads(line) for line in (VECTORS / "remote_exec.jsonl").read_text().splitlines()[1:]]
REPLIES = [case for case in CASES if (case.get("reply") or {}).get("kind") == "reply"]
REQUESTS = [case for case in CASES if case.get("request")]
TEXTS = json.loads((VECTORS / "errors.json").read_text())["cases"]
NOW = Instant.parse("2026-01-02T03:04:05.5Z")

NAMES_HAVE_NO_CASE = "header names are compared without case; Go looks them up by exact case"
READ_DIFFERENTLY = {
    "error_lower_case": (NAMES_HAVE_NO_CASE, ExecReply("error", "smtp down", body=b"x")),
    "error_canonical_case": (NAMES_HAVE_NO_CASE, ExecReply("error", "smtp down", body=b"x")),
    "error_upper_case": (NAMES_HAVE_NO_CASE, ExecReply("error", "smtp down", body=b"x")),
    "terminate_lower_case": (NAMES_HAVE_NO_CASE, ExecReply("terminate", "bad address", body=b"x")),
    "error_two_values_first_empty": ("the first value that is not empty counts", ExecReply("error", "second")),
    "reply_status_503_no_body": ("a header called Status is no status line", ExecReply("success")),
}


def block_of(headers: list[Any] | None) -> bytes | None:
    """The block as Go's client writes it: line breaks become blanks, values are trimmed."""
    if headers is None:
        return None
    block = b"NATS/1.0\r\n"
    for header in headers:
        if isinstance(header, dict):
            name, value = header["name"], base64.b64decode(header["value_base64"])
        else:
            name, value = header[0], header[1].encode()
        block += name.encode() + b": " + value.replace(b"\n", b" ").strip() + b"\r\n"
    return block + b"\r\n"


@pytest.mark.parametrize("case", REPLIES, ids=[case["name"] for case in REPLIES])
def test_a_reply_means_what_it_meant_to_go(case: dict[str, Any]) -> None:
    body = base64.b64decode(case["reply"]["body_base64"])
    reply = read_reply(block_of(case["reply"]["headers"]), body)
    if case["name"] in READ_DIFFERENTLY:
        assert reply == READ_DIFFERENTLY[case["name"]][1]
        return
    outcome = case["outcome"]
    assert reply.body == body
    if outcome["state"] == "complete":
        assert reply.kind == "success"
        assert Result.of_bytes(reply.body, NOW).raw == outcome["result"]["payload"]
    elif outcome["state"] == "terminated":
        assert reply.kind == "terminate"
        assert reply.text + ": terminate task" == outcome["last_err"]  # Go's suffix is not copied
    else:
        assert reply.kind == "error"
        assert reply.text == outcome["last_err"]


def test_the_list_names_cases_that_exist() -> None:
    assert set(READ_DIFFERENTLY) <= {case["name"] for case in REPLIES}


@pytest.mark.parametrize("case", REQUESTS, ids=[case["name"] for case in REQUESTS])
def test_gos_two_headers_are_enough_for_a_responder(case: dict[str, Any]) -> None:
    request = case["request"]
    headers = request.get("headers_raw", "").encode() or block_of(
        [(name, value) for name, values in request["headers"].items() for value in values]
    )
    body = request["body"].encode()
    task = Task.decode(body)
    assert task.tried is not None
    read = ExecRequest.decode(headers, body, now=task.tried)
    assert (read.task_id, read.type, read.queue) == (task.id, task.type, task.queue)
    assert (read.try_number, read.max_tries) == (task.tries, task.max_tries)
    assert read.deadline.rfc3339() in headers.decode()
    assert read.timeout_ms == (read.deadline - task.tried) // 1_000_000
    assert read.heartbeat_subject is read.heartbeat_ms is read.traceparent is read.tracestate is None
    assert read.body == body
    if "deadline_minus_start_ms" in case:
        assert read.timeout_ms <= case["expected_before_truncation_ms"]  # whole seconds, cut off


@pytest.mark.parametrize("case", TEXTS, ids=[case["name"] for case in TEXTS])
def test_texts_found_in_stored_data_are_kept_as_they_are(case: dict[str, Any]) -> None:
    text = case["text"]
    assert clean_text(text) == text
    assert Task.decode(Task.create("t").replace(last_err=text).encode()).last_err == text
    headers = reply_headers(error=text)
    assert headers is not None
    assert read_reply(headers, b"").text == (text.replace("\n", " ") or "failed")


NAME = st.text("abcXYZ019_-", min_size=1, max_size=10)
TOKEN = st.one_of(st.none(), NAME)
REQUEST = st.builds(
    ExecRequest,
    task_id=NAME,
    type=NAME,
    queue=NAME,
    try_number=st.integers(1, 10**9),
    max_tries=st.integers(0, 10**9),
    deadline=st.integers(0, 2**62).map(Instant),
    timeout_ms=st.integers(-(10**9), 10**12),
    heartbeat_subject=st.just("ajc.beat.b.c"),
    heartbeat_ms=st.integers(1, 10**9),
    traceparent=NAME,
    tracestate=TOKEN,
    body=st.binary(max_size=20),
)


@given(REQUEST)
def test_a_request_survives(request: ExecRequest) -> None:
    assert ExecRequest.decode(request.headers(), request.body) == request


def test_a_request_to_the_letter() -> None:
    request = ExecRequest(
        task_id="a",
        type="email:new",
        queue="EMAIL",
        try_number=2,
        max_tries=5,
        deadline=NOW,
        timeout_ms=28_000,
    )
    assert request.headers().decode().split("\r\n") == [
        "NATS/1.0",
        "AJ-Content-Type: application/x-asyncjobs-task+json",
        "AJ-Handler-Deadline: 2026-01-02T03:04:05.5Z",
        "AJ-Protocol: 1",
        "AJ-Task-Id: a",
        "AJ-Task-Type: email:new",
        "AJ-Queue: EMAIL",
        "AJ-Try: 2",
        "AJ-Max-Tries: 5",
        "AJ-Timeout-Ms: 28000",
        "",
        "",
    ]


@given(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10), st.text(max_size=10))
def test_no_text_of_somebody_else_becomes_a_header_of_its_own(
    task_id: str, queue: str, parent: str, state: str
) -> None:
    request = ExecRequest(
        task_id=task_id + "\r\nAJ-Try: 9",
        type="t",
        queue=queue + "\n",
        try_number=1,
        max_tries=0,
        deadline=NOW,
        timeout_ms=1,
        traceparent=parent + "\r\n\r\n",
        tracestate=state,
    )
    found = parse_headers(request.headers())
    assert [value for name, value in found.items if name.lower() == "aj-try"] == ["1"]
    assert len(found.items) <= 11


@pytest.mark.parametrize(
    ("headers", "body", "field"),
    [
        (None, b"", "body"),
        (None, b"{}", "AJ-Handler-Deadline"),
        (None, b'{"tries":1.5}', "body.tries"),
        (b"rubbish", b"{}", "headers"),
        (b"NATS/1.0\r\nAJ-Handler-Deadline: soon\r\n\r\n", b"{}", "AJ-Handler-Deadline"),
    ],
)
def test_a_request_that_no_responder_could_work_with(headers: bytes | None, body: bytes, field: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        ExecRequest.decode(headers, body)
    assert caught.value.field == field


def test_a_request_by_hand_needs_a_time_out_only() -> None:
    body = Task.create("t", id="a", queue="Q").encode()
    read = ExecRequest.decode(b"NATS/1.0\r\nAJ-Timeout-Ms: 1500\r\nAJ-Try: x\r\n\r\n", body, now=NOW)
    assert read.deadline == NOW.plus(1_500_000_000)
    assert read.try_number == 1
    assert ExecRequest.decode(b"NATS/1.0\r\nAJ-Timeout-Ms: 1\r\n\r\n", body, now=Instant(0)).deadline == 1_000_000


@given(
    st.one_of(st.none(), st.binary(max_size=80), st.binary(max_size=60).map(lambda rest: b"NATS/1.0\r\n" + rest)),
    st.binary(max_size=20),
)
def test_any_bytes_are_a_request_and_a_reply_or_refused(headers: bytes | None, body: bytes) -> None:
    assert read_reply(headers, body).kind in {"success", "terminate", "busy", "error", "no_responder", "malformed"}
    with pytest.raises(MalformedRequest):
        ExecRequest.decode(headers, body)


def lines(*headers: str) -> bytes:
    return ("NATS/1.0\r\n" + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode()


@pytest.mark.parametrize(
    ("headers", "reply"),
    [
        (None, ExecReply("success", body=b"x")),
        (lines(), ExecReply("success", body=b"x")),
        (lines("AJ-Retry-After-Ms: 5"), ExecReply("success", body=b"x")),
        (lines("AJ-Error: e"), ExecReply("error", "e", body=b"x")),
        (lines("AJ-Error: e", "AJ-Busy: b", "AJ-Terminate: t"), ExecReply("terminate", "t", body=b"x")),
        (lines("AJ-Error: e", "AJ-Busy: b"), ExecReply("busy", "b", body=b"x")),
        (lines("AJ-Terminate: t", "AJ-Retry-After-Ms: 5"), ExecReply("terminate", "t", body=b"x")),
        (lines("AJ-Terminate: t", "AJ-Retry-After-Ms: x"), ExecReply("terminate", "t", body=b"x")),
        (lines("Nats-Service-Error: s", "Nats-Service-Error-Code: 500"), ExecReply("error", "s", body=b"x")),
        (lines("Nats-Service-Error: s", "AJ-Error: e"), ExecReply("error", "e", body=b"x")),
        (lines("AJ-Error: ", "Nats-Service-Error: s"), ExecReply("error", "s", body=b"x")),
        (lines("aj-ERROR: e", "aj-retry-after-ms: 5"), ExecReply("error", "e", 5, body=b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: 0"), ExecReply("busy", "b", 0, body=b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: "), ExecReply("busy", "b", body=b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: -1"), ExecReply("busy", "b", None, True, b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: +1"), ExecReply("busy", "b", None, True, b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: 1.5"), ExecReply("busy", "b", None, True, b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: ٣"), ExecReply("busy", "b", None, True, b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: 007"), ExecReply("busy", "b", 7, body=b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: 2592000001"), ExecReply("busy", "b", 2_592_000_000, body=b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: " + "9" * 9000), ExecReply("busy", "b", 2_592_000_000, body=b"x")),
        (lines("AJ-Busy: b", "AJ-Retry-After-Ms: " + "0" * 9000), ExecReply("busy", "b", 0, body=b"x")),
        (b"NATS/1.0 503\r\n\r\n", ExecReply("no_responder")),
        (b"NATS/1.0 503 No Responders\r\n\r\n", ExecReply("no_responder")),
        (b"NATS/1.0 408 Request Timeout\r\n\r\n", ExecReply("malformed", "status 408 Request Timeout", body=b"x")),
        (b"NATS/1.0 404\r\n\r\n", ExecReply("malformed", "status 404", body=b"x")),
        (b"", ExecReply("malformed", "starts with '' where NATS/1.0 belongs", body=b"x")),
        (lines("no colon"), ExecReply("malformed", "line 'no colon' is no name: value", body=b"x")),
        (lines("AJ-Error: a\x07b"), ExecReply("error", "ab", body=b"x")),
        (lines("AJ-Error: \x07"), ExecReply("error", "", body=b"x")),
    ],
)
def test_the_first_rule_that_matches_decides(headers: bytes | None, reply: ExecReply) -> None:
    assert read_reply(headers, b"x") == reply


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ({"terminate": "no address", "retry_after_ms": 5}, ExecReply("terminate", "no address")),
        ({"busy": "full"}, ExecReply("busy", "full")),
        ({"busy": "", "retry_after_ms": 5}, ExecReply("busy", "busy", 5)),
        ({"error": "  \r\n", "retry_after_ms": -5}, ExecReply("error", "failed", 0)),
        (
            {"error": "line 1\nline 2", "retry_after_ms": 10**15},
            ExecReply("error", "line 1 line 2", LONGEST_RETRY_AFTER_MS),
        ),
        ({"terminate": ""}, ExecReply("terminate", "terminated")),
        ({"error": "ä\ud800"}, ExecReply("error", "ä\ufffd")),
    ],
)
def test_what_a_responder_says_is_read_back(said: dict[str, Any], reply: ExecReply) -> None:
    assert read_reply(reply_headers(**said), b"") == reply


def test_a_result_needs_no_headers() -> None:
    assert reply_headers() is None
    assert reply_headers(retry_after_ms=5) is None


@given(st.one_of(st.text(), st.binary(), st.text(min_size=1500).map(lambda text: text * 4)))
def test_a_clean_text_is_short_printable_and_stays_clean(text: str | bytes) -> None:
    clean = clean_text(text)
    assert len(clean.encode()) <= LONGEST_TEXT
    assert all(character in "\t\n" or not (character < " " or "\x7f" <= character <= "\x9f") for character in clean)
    assert clean_text(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("line 1\n\tline 2\r\n", "line 1\n\tline 2\n"),
        ("a\x00b\x1b[31mc\x7f\x85d", "ab[31mcd"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xed\xa0\x80", "\ufffd" * 3),
        ("a\ud800", "a\ufffd"),
        ("\xa0\u2028", "\xa0\u2028"),
        ("x" * 4096, "x" * 4096),
        ("x" * 4097, "x" * 4093 + "…"),
        ("ä" * 2048, "ä" * 2048),
        ("ä" * 2049, "ä" * 2046 + "…"),
        ("x" + "\U0001f680" * 1024, "x" + "\U0001f680" * 1023 + "…"),
        ("\ud800" * 2000, "\ufffd" * 1364 + "…"),
    ],
)
def test_clean_text(text: str | bytes, clean: str) -> None:
    assert clean_text(text) == clean
