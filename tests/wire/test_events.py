"""Lifecycle events: what Go published is read, and written again to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc import ksuid
from ajc.errors import MalformedEvent, UnknownEvent
from ajc.events import LeaderElected, TaskStateChanged, decode_event, encode_state_change
from ajc.instant import GO_ZERO, Instant
from ajc.subjects import event_subject, leader_event_subject
from ajc.task import Task

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "events.json").read_text())["cases"]
PUBLISHED = [(case["name"], event) for case in CASES for event in case.get("events", [])]
PARSED = [case for case in CASES if "input" in case]
NOW = Instant.parse("2026-01-02T03:04:05.9Z")


def ordered(text: bytes) -> list[tuple[str, Any]]:
    members: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    return members


@pytest.mark.parametrize(
    ("name", "published"), PUBLISHED, ids=[f"{name}-{at}" for at, (name, _) in enumerate(PUBLISHED)]
)
def test_what_go_published(name: str, published: dict[str, str]) -> None:
    text = published["text"]
    event = decode_event(text.encode())
    if isinstance(event, TaskStateChanged):
        assert event_subject(event.task_id) == published["subject"]
    else:
        assert leader_event_subject(event.component) == published["subject"]
    assert ordered(event.encode()) == ordered(text.encode())


@pytest.mark.parametrize("case", PARSED, ids=[case["name"] for case in PARSED])
def test_accepted_or_refused_like_go(case: dict[str, Any]) -> None:
    if case["accepted"]:
        event = decode_event(case["input"].encode())
        assert event.encode() == case["remarshalled"].encode()
        assert case["event_type"] == event.TYPE
        return
    unknown = case["error"].startswith("unknown event type")
    with pytest.raises(UnknownEvent if unknown else MalformedEvent) as caught:
        decode_event(case["input"].encode())
    assert isinstance(caught.value, UnknownEvent) == unknown


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
SECONDS = st.integers(-62_135_596_800, 253_402_300_799).map(lambda seconds: Instant(seconds * 10**9))
INT64 = st.integers(-(2**63), 2**63 - 1)
STATES = st.builds(
    TaskStateChanged,
    event_id=TEXT,
    timestamp=SECONDS,
    task_id=TEXT,
    state=TEXT,
    tries=INT64,
    queue=TEXT,
    task_type=TEXT,
    last_error=TEXT,
    task_age=st.one_of(st.none(), INT64),
)
ELECTIONS = st.builds(LeaderElected, event_id=TEXT, timestamp=SECONDS, name=TEXT, component=TEXT)


@given(st.one_of(STATES, ELECTIONS))
def test_what_is_written_reads_back_the_same(event: TaskStateChanged | LeaderElected) -> None:
    assert decode_event(event.encode()) == event


@given(st.binary(max_size=100))
def test_any_bytes_are_an_event_or_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode_event(data)


@given(st.data(), STATES)
def test_any_damaged_event_is_an_event_or_refused(data: st.DataObject, event: TaskStateChanged) -> None:
    text = bytearray(event.encode())
    at = data.draw(st.integers(0, len(text)))
    text[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\\ud800", b"{", b"null", b"1e999", b"\xff"]))
    )
    try:
        read = decode_event(bytes(text))
    except MalformedEvent:
        return
    assert decode_event(read.encode()) == read


@pytest.mark.parametrize("depth", [1_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(MalformedEvent):
        decode_event(b'{"x":' + b"[" * depth + b"]" * depth + b"}")


def test_the_event_of_a_save() -> None:
    task = Task.create("email:new", queue="EMAIL", created=NOW.plus(-5)).replace(
        state="retry", tries=2, last_err="smtp down"
    )
    event = TaskStateChanged.of(task, NOW)
    assert event == TaskStateChanged(
        event_id=event.event_id,
        timestamp=Instant.parse("2026-01-02T03:04:05Z"),
        task_id=task.id,
        state="retry",
        tries=2,
        queue="EMAIL",
        task_type="email:new",
        last_error="smtp down",
        task_age=5,
    )
    assert ksuid.seconds_of(event.event_id) == NOW // 10**9
    assert TaskStateChanged.of(task, NOW, "OTHER").queue == "OTHER"
    assert TaskStateChanged.of(task, NOW).event_id != event.event_id


def test_an_age_is_negative_absent_or_clamped_as_in_go() -> None:
    task = Task.create("t", created=NOW.plus(7))
    assert TaskStateChanged.of(task, NOW).task_age == -7
    assert b"task_age" not in TaskStateChanged.of(task.replace(created=GO_ZERO), NOW).encode()
    assert TaskStateChanged.of(task.replace(created=GO_ZERO.plus(1)), NOW).task_age == 2**63 - 1
    far = Instant.parse("9999-01-01T00:00:00Z")
    assert TaskStateChanged.of(task.replace(created=far), NOW).task_age == -(2**63)


@given(
    st.builds(
        Task,
        id=TEXT,
        type=TEXT,
        state=TEXT,
        tries=INT64,
        last_err=st.text(max_size=10),
        created=st.one_of(st.just(GO_ZERO), st.integers(-(10**19), 10**19).map(Instant)),
    ),
    TEXT,
)
def test_written_at_once_or_as_a_value_it_is_the_same_event(task: Task, queue: str) -> None:
    at_once = json.loads(encode_state_change(task, NOW, queue))
    as_value = json.loads(TaskStateChanged.of(task, NOW, queue).encode())
    assert list(at_once) == list(as_value)
    assert at_once | {"event_id": ""} == as_value | {"event_id": ""}
    assert ksuid.seconds_of(at_once["event_id"]) == NOW // 10**9


def test_an_election() -> None:
    event = LeaderElected.of("bridge-1", "task_scheduler", NOW)
    assert json.loads(event.encode()) == {
        "event_id": event.event_id,
        "type": "io.choria.asyncjobs.v1.leader_elected",
        "timestamp": "2026-01-02T03:04:05Z",
        "name": "bridge-1",
        "component": "task_scheduler",
    }


def test_text_that_utf8_cannot_hold_is_mended() -> None:
    task = Task.create("t", created=NOW).replace(last_err="a\ud800")
    assert decode_event(TaskStateChanged.of(task, NOW).encode()).last_error == "a\ufffd"  # type: ignore[union-attr]
    damaged = (
        b'{"type":"io.choria.asyncjobs.v1.task_state","timestamp":"2026-01-02T03:04:05Z","last_error":"a\xff\\ud800"}'
    )
    assert decode_event(damaged).last_error == "a\ufffd\ufffd"  # type: ignore[union-attr]
