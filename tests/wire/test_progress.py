"""What a beat says, and the event that it becomes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ajc import ksuid
from ajc.errors import MalformedEvent
from ajc.events import decode_event
from ajc.exchange import LONGEST_TEXT
from ajc.instant import Instant
from ajc.progress import LONGEST_BEAT, NOTHING_SAID, Progress, TaskProgressed, read_beat
from ajc.subjects import all_events_subject, progress_subject

NOW = Instant.parse("2026-01-02T03:04:05.9Z")


@pytest.mark.rule("EXEC-27")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", NOTHING_SAID),
        (b"{}", Progress()),
        (b'{"percent": 0}', Progress(0)),
        (b'{"percent": 100, "message": "done"}', Progress(100, "done")),
        (b'{"percent": 33.5, "eta": [1, {}]}', Progress(33.5)),
        (b'{"percent": null, "message": null}', Progress()),
        (b'{"message": "a\\u001b[31m\\tb\\nc"}', Progress(None, "a[31m\tb\nc")),
    ],
)
def test_a_beat_that_can_be_read(body: bytes, said: Progress) -> None:
    assert read_beat(body) == said


@pytest.mark.rule("EXEC-27")
@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"50",
        b"null",
        b'["percent"]',
        b'{"percent": 101}',
        b'{"percent": -0.1}',
        b'{"percent": 1e400}',
        b'{"percent": "50"}',
        b'{"percent": true}',
        b'{"percent": NaN}',
        b'{"message": 5}',
        b'{"message": "\xff"}',
        b'{"percent": 50',
        b'{"x":' + b"[" * 20_000,
        b'{"message": "' + b"x" * LONGEST_BEAT + b'"}',
    ],
)
def test_a_beat_that_says_nothing_that_can_be_read(body: bytes) -> None:
    assert read_beat(body) is None


def test_a_message_is_as_long_as_any_text() -> None:
    longest = json.dumps({"message": "\u00e9" * (LONGEST_TEXT // 2)}).encode()
    assert read_beat(longest) == Progress(None, "é" * (LONGEST_TEXT // 2))
    said = read_beat(json.dumps({"message": "é" * (LONGEST_TEXT // 2 + 1)}).encode())
    assert said is not None
    assert said.message.endswith("é…")
    assert len(said.message.encode()) <= LONGEST_TEXT


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_nothing(body: bytes) -> None:
    said = read_beat(body)
    assert said is None or said.percent is None or 0 <= said.percent <= 100


TEXT = st.text(max_size=10)
EVENTS = st.builds(
    TaskProgressed,
    event_id=TEXT,
    timestamp=st.integers(-62_135_596_800, 253_402_300_799).map(lambda seconds: Instant(seconds * 10**9)),
    task_id=TEXT,
    queue=TEXT,
    task_type=TEXT,
    tries=st.integers(-(2**63), 2**63 - 1),
    percent=st.none() | st.integers(0, 100) | st.floats(0, 100),
    message=TEXT,
    extra=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map("x".__add__),
        st.sampled_from([Raw(b"1e400"), Raw(b'{"a": [1]}'), Raw(b'"x"')]),
        max_size=2,
    ),
)


@given(EVENTS)
def test_what_is_written_reads_back_and_keys_nobody_knows_survive(event: TaskProgressed) -> None:
    read = decode_event(event.encode())
    assert isinstance(read, TaskProgressed)
    assert read.encode() == event.encode()
    assert {key: bytes(value) for key, value in read.extra.items()} == {
        key: bytes(value) for key, value in event.extra.items()
    }
    assert read.percent == event.percent


def test_the_event_of_a_beat() -> None:
    event = TaskProgressed.of("t1", Progress(50, "half"), NOW, queue="EMAIL", task_type="email:new", tries=2)
    assert json.loads(event.encode()) == {
        "event_id": event.event_id,
        "type": "io.choria.asyncjobs.v1.task_progress",
        "timestamp": "2026-01-02T03:04:05Z",
        "task_id": "t1",
        "queue": "EMAIL",
        "task_type": "email:new",
        "tries": 2,
        "percent": 50,
        "message": "half",
    }
    assert ksuid.seconds_of(event.event_id) == NOW // 10**9
    bare = TaskProgressed.of("t1", NOTHING_SAID, NOW, queue="", task_type="t", tries=1)
    assert b"percent" not in bare.encode()
    assert b"message" not in bare.encode()
    assert b"queue" not in bare.encode()


@pytest.mark.parametrize("field", ['"percent": 101', '"percent": "x"', '"timestamp": "soon"', '"message": 1'])
def test_an_event_that_cannot_be_read(field: str) -> None:
    with pytest.raises(MalformedEvent):
        decode_event(b'{"type": "io.choria.asyncjobs.v1.task_progress", %b}' % field.encode())


def test_where_it_is_published() -> None:
    assert progress_subject("t1") == "CHORIA_AJ.E.task_progress.t1"
    assert all_events_subject("t1") == "CHORIA_AJ.E.*.t1"
