"""Names and subjects: Go's, and never a subject made of a name outside the grammar."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc import subjects
from ajc.errors import InvalidName

VECTORS = Path(__file__).parent.parent / "vectors"
NAMES = json.loads((VECTORS / "names.json").read_text())["cases"]
STREAMS = json.loads((VECTORS / "streams.json").read_text())["cases"]
EXEC = [json.loads(line) for line in (VECTORS / "remote_exec.jsonl").read_text().splitlines()]

TOO_LONG = "128 characters are enough, and a stream's name with a queue's in it has a limit of the server's own"
COLON = "a colon in a queue's name would let the fields of a signature shift"
NOT_A_TOKEN = "queues have the grammar of types, so that every reader can take their names"
REFUSED_THOUGH_GO_ACCEPTS: dict[str, dict[str, str]] = {
    "name": dict.fromkeys(("len_200", "len_243", "len_244", "len_255", "len_256", "len_5000"), TOO_LONG),
    "queue": dict.fromkeys(("len_200", "len_243"), TOO_LONG)
    | dict.fromkeys(("all_allowed", "colon", "colon_only", "leading_colon", "trailing_colon"), COLON)
    | dict.fromkeys(
        (
            *(
                "dollar",
                "at",
                "hash",
                "plus",
                "equals",
                "quote",
                "apostrophe",
                "less_than",
                "percent",
                "comma",
                "tilde",
            ),
            *("umlaut", "cjk", "fullwidth_a", "arabic_digit", "combining", "emoji", "zero_width", "nbsp", "long_s"),
            *("kelvin", "del"),
        ),
        NOT_A_TOKEN,
    ),
}


def value_of(case: dict[str, Any]) -> str:
    if "value_base64" in case:
        return base64.b64decode(case["value_base64"]).decode("utf-8", "surrogateescape")
    return str(case.get("value", "a" * 5000))


@pytest.mark.parametrize("case", NAMES, ids=[case["name"] for case in NAMES])
def test_accepted_or_refused_like_go_or_more_strictly(case: dict[str, Any]) -> None:
    name, value = case["name"], value_of(case)
    expected = case["task_type"]["accepted"] and name not in REFUSED_THOUGH_GO_ACCEPTS["name"]
    assert subjects.is_type(value) == subjects.is_id(value) == expected
    queue = case["queue"]["accepted"] and name not in REFUSED_THOUGH_GO_ACCEPTS["queue"]
    assert subjects.is_queue(value) == queue


def test_the_lists_name_cases_that_exist() -> None:
    accepted = {case["name"]: case for case in NAMES}
    assert all(accepted[name]["task_type"]["accepted"] for name in REFUSED_THOUGH_GO_ACCEPTS["name"])
    assert all(accepted[name]["queue"]["accepted"] for name in REFUSED_THOUGH_GO_ACCEPTS["queue"])


@pytest.mark.parametrize("case", STREAMS, ids=[case["name"] for case in STREAMS])
def test_streams_and_subjects_are_gos(case: dict[str, Any]) -> None:
    found = {name: value for name, value in case.items() if isinstance(value, dict) and "subjects" in value}
    for config in found.values():
        queue = subjects.queue_of_stream(config["name"])
        if queue is None:
            if config["name"] == subjects.TASKS_STREAM:
                assert config["subjects"] == [subjects.TASK_SUBJECTS]
            else:
                assert config["name"] in {
                    "KV_" + subjects.CONFIGURATION_BUCKET,
                    "KV_" + subjects.ELECTIONS_BUCKET,
                }
            continue
        assert subjects.queue_stream(queue) == config["name"]
        assert [subjects.queue_subjects(queue)] == config["subjects"]
    consumer = case.get("consumer")
    if consumer:
        assert consumer["durable_name"] == subjects.CONSUMER


@pytest.mark.parametrize("case", [case for case in EXEC if case.get("name", "").startswith("subject_for_type_")])
def test_exec_subjects_for_responders_written_for_go(case: dict[str, Any]) -> None:
    assert subjects.exec_subject(subjects.GO_EXEC_PREFIX, case["task_type"]) == case["subject"]


def test_every_subject() -> None:
    assert subjects.task_subject("a") == "CHORIA_AJ.T.a"
    assert subjects.item_subject("Q", "a") == "CHORIA_AJ.Q.Q.a"
    assert subjects.delay_schedule_subject("Q", "a") == "CHORIA_AJ.D.S.Q.a"
    assert subjects.delay_fire_subject("Q", "a") == "CHORIA_AJ.D.F.Q.a"
    assert subjects.dlq_subject("Q", "a") == "CHORIA_AJ.DLQ.Q.a"
    assert subjects.items_of("Q") == "CHORIA_AJ.Q.Q.*"
    assert subjects.schedules_of("Q") == "CHORIA_AJ.D.S.Q.*"
    assert subjects.schedule_anywhere("a") == "CHORIA_AJ.D.S.*.a"
    assert subjects.fired_of("Q") == "CHORIA_AJ.D.F.Q.*"
    assert subjects.fired_anywhere("a") == "CHORIA_AJ.D.F.*.a"
    assert subjects.dead_letters_of("Q") == "CHORIA_AJ.DLQ.Q.*"
    assert subjects.exec_subject("ajc.exec", "email:new") == "ajc.exec.email:new"
    assert subjects.exec_subject("ajc.exec", "") == "ajc.exec.catchall"
    assert subjects.cancel_subject("a") == "ajc.cancel.a"
    assert subjects.beat_subject("b", "c") == "ajc.beat.b.c"
    assert subjects.event_subject("a") == "CHORIA_AJ.E.task_state.a"
    assert subjects.leader_event_subject("task_scheduler") == "CHORIA_AJ.E.leader_election.task_scheduler"


BUILDERS: list[Callable[[str], str]] = [
    subjects.task_subject,
    subjects.queue_stream,
    subjects.queue_subjects,
    lambda name: subjects.item_subject("Q", name),
    lambda name: subjects.item_subject(name, "a"),
    lambda name: subjects.delay_schedule_subject("Q", name),
    lambda name: subjects.delay_schedule_subject(name, "a"),
    lambda name: subjects.delay_fire_subject("Q", name),
    lambda name: subjects.delay_fire_subject(name, "a"),
    lambda name: subjects.dlq_subject(name, "a"),
    lambda name: subjects.exec_subject("ajc.exec", name or "."),
    subjects.items_of,
    subjects.schedules_of,
    subjects.schedule_anywhere,
    subjects.fired_of,
    subjects.fired_anywhere,
    subjects.dead_letters_of,
    subjects.cancel_subject,
    lambda name: subjects.beat_subject("b", name),
    lambda name: subjects.beat_subject(name, "a"),
    subjects.event_subject,
    subjects.leader_event_subject,
    subjects.check_type,
    subjects.check_id,
    subjects.check_queue,
]
HOSTILE = st.one_of(
    st.sampled_from(
        ["", ".", "*", ">", "a.b", "a b", "a\n", "a\r\nPUB x 0", "\x00", "a\x7f", "ä", "a" * 129, "$JS.API"]
    ),
    st.text(max_size=10).filter(lambda text: not subjects.is_id(text)),
)


@given(HOSTILE)
def test_no_subject_is_made_of_a_name_outside_the_grammar(name: str) -> None:
    for build in BUILDERS:
        with pytest.raises(InvalidName) as caught:
            build(name)
        assert "use 1 to 128" in str(caught.value)


@given(st.text())
def test_a_dead_letter_of_any_id_has_one_legal_subject(task_id: str) -> None:
    subject = subjects.dlq_subject("Q", task_id)
    assert subjects.is_id(subject.removeprefix("CHORIA_AJ.DLQ.Q."))
    assert subject == subjects.dlq_subject("Q", task_id)


def test_a_dead_letter_of_an_illegal_id_is_found_by_its_hash() -> None:
    assert subjects.dlq_subject("Q", "a b") == "CHORIA_AJ.DLQ.Q.sha256-c8687a08aa5d6ed2"


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"]])
def test_what_is_no_text_is_no_name(value: object) -> None:
    assert not subjects.is_type(value)
    assert not subjects.is_id(value)
    assert not subjects.is_queue(value)


def test_catchall_is_reserved_when_enqueueing() -> None:
    with pytest.raises(InvalidName, match="reserved"):
        subjects.check_type("catchall")
    assert subjects.check_type("catchall", catchall=True) == "catchall"
    assert subjects.is_type("catchall")


def test_queue_of_stream() -> None:
    assert subjects.queue_of_stream("CHORIA_AJ_Q_EMAIL") == "EMAIL"
    assert (
        subjects.queue_of_stream("CHORIA_AJ_Q_a:b") == "a:b"
    )  # Go's: named, so that it can be refused with its reason
    assert subjects.queue_of_stream("CHORIA_AJ_Q_") is None
    assert subjects.queue_of_stream("CHORIA_AJ_TASKS") is None


def test_item_of_subject() -> None:
    assert subjects.item_of_subject("CHORIA_AJ.Q.EMAIL.a:b") == ("EMAIL", "a:b")
    assert subjects.item_of_subject("CHORIA_AJ.Q.EMAIL.x.y") == ("EMAIL", "y")
    assert subjects.item_of_subject("CHORIA_AJ.Q.EMAIL") == ("", "")
    assert subjects.item_of_subject("CHORIA_AJ.T.a.b") == ("", "")


def test_the_names_that_are_remembered_stay_few() -> None:
    for number in range(5_000):
        assert subjects.is_id(f"task{number}")
    assert len(subjects._legal) <= subjects._KEPT
    assert not subjects.is_type("x" * 129)
    assert "x" * 129 not in subjects._legal
