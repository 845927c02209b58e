"""Log lines: stable keys, the level that is set, and never a flood."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from ajc.task import Task
from ajc_bridge import happenings as happened
from ajc_bridge.journal.journal import Journal
from ajc_bridge.journal.log_table import LINES, field_names
from ajc_bridge.journal.logs import Logs, fields_of


def lines(level: str, *details: happened.Detail, **options: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    journal = Journal([Logs(level, "json", stream=stream, **options)])  # type: ignore[arg-type]
    for detail in details:
        journal.note(detail)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def any_detail(kind: type[happened.Detail]) -> happened.Detail:
    made: list[Any] = []
    for name in kind.__struct_fields__:
        annotation = kind.__annotations__[name]
        made.append({"int": 5_000_000, "str": "x", "bool": True, "Task": Task.create("t")}.get(annotation, ("a", "b")))
    return kind(*made)


@pytest.mark.parametrize("kind", LINES, ids=lambda kind: kind.action)
def test_each_line_has_its_action_and_the_keys_of_the_table(kind) -> None:
    (line,) = lines("debug", any_detail(kind))
    assert line["action"] == kind.action
    assert line["level"] in {"debug", "info", "warn", "error"}
    assert line["time"].endswith("Z")
    assert line["event"] == LINES[kind].text
    assert set(field_names(kind)) <= set(line)
    assert list(fields_of(any_detail(kind))) == field_names(kind)


def test_durations_are_milliseconds() -> None:
    (line,) = lines("debug", happened.AttemptEnded("Q", "t", "id", 1, "failed", 1_500_000, 2_000_000, "boom"))
    assert (line["dispatch_ms"], line["handler_ms"], line["text"]) == (1.5, 2.0, "boom")


def test_a_tasks_ordinary_life_is_debug() -> None:
    life = [
        happened.AttemptStarted("Q", "t", "id", 1),
        happened.AttemptEnded("Q", "t", "id", 1, "succeeded", 1, 1, ""),
        happened.TaskSettled("Q", "t", "id", "complete", "complete", 1, ""),
        happened.DeadLettered("Q", "t", "id", "tries"),
    ]
    assert lines("info", *life) == []
    assert len(lines("debug", *life)) == 4


def test_data_that_nobody_can_read_is_a_warning() -> None:
    bad = [happened.DeadLettered("Q", "", "id", "malformed_item"), happened.ItemDropped("Q", "id", "no_record")]
    assert [line["level"] for line in lines("info", *bad)] == ["warn", "warn"]
    assert [line["level"] for line in lines("warn", *bad)] == ["warn", "warn"]
    assert lines("error", *bad) == []


def test_a_flood_of_one_kind_becomes_one_line_a_minute() -> None:
    now = [0.0]
    stream = io.StringIO()
    journal = Journal([Logs("info", "json", stream=stream, monotonic=lambda: now[0])])
    for number in range(1_000):
        journal.note(happened.TaskParked("Q", "t", f"id{number}", 1, 1, "no responder"))
    journal.note(happened.TaskParked("Q", "other", "id", 1, 1, "no responder"))
    now[0] = 61
    journal.note(happened.TaskParked("Q", "t", "last", 1, 1, "no responder"))
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["type"], line.get("suppressed")) for line in told] == [("t", None), ("other", None), ("t", 999)]


def test_the_level_can_change_while_running() -> None:
    stream = io.StringIO()
    logs = Logs("warn", "json", stream=stream)
    journal = Journal([logs])
    journal.note(happened.Drained(0))
    logs.level = "info"
    journal.rewire()
    journal.note(happened.Drained(0))
    assert len(stream.getvalue().splitlines()) == 1


def test_the_console_form_is_for_people() -> None:
    stream = io.StringIO()
    Journal([Logs("info", "console", stream=stream)]).note(happened.HttpListening("http://127.0.0.1:8088"))
    (line,) = stream.getvalue().splitlines()
    assert "action=http.listening" in line
    assert "url=http://127.0.0.1:8088" in line


def test_the_console_shows_nothing_empty_and_durations_as_people_write_them() -> None:
    for form, shown, hidden in (
        ("console", "field=DLQ.max_age before=absent limit=1m30s", ("queue=", "_ms")),
        ("json", '"queue":"" "limit_ms":90000.0', ()),
    ):
        stream = io.StringIO()
        journal = Journal([Logs("info", form, stream=stream)])  # type: ignore[arg-type]
        journal.note(happened.QueueConfigured("", "DLQ.max_age", "absent", "created"))
        journal.note(happened.Draining(3, 90_000_000_000))
        told = stream.getvalue()
        assert all(part in told for part in shown.split()), told
        assert not any(part in told for part in hidden), told


def test_what_libraries_log_comes_out_as_lines_of_ours() -> None:
    stream = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        Logs("info", "json", stream=stream).take_over_logging()
        logging.getLogger("some.library").warning("odd %s", 1)
        logging.getLogger("some.library").info("chatter")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    (line,) = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (line["action"], line["level"], line["event"]) == ("log.some.library", "warn", "odd 1")
