"""Task records as Go stored them: read, compared value by value, written again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ajc.errors import InvalidValue
from ajc.instant import Instant
from ajc.task import Task

Values = Callable[[Task], dict[str, Any]]
VECTORS = Path(__file__).parent.parent / "vectors"
CASES = json.loads((VECTORS / "tasks.json").read_text())["cases"]
LIFECYCLE = [json.loads(line) for line in (VECTORS / "lifecycle.jsonl").read_text().splitlines()[1:]]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_stored_record_means_what_go_meant(case: dict[str, Any], values: Values) -> None:
    data = base64.b64decode(case["base64"])
    assert data == case["json"].encode()
    task = Task.decode(data)
    assert values(task) == case["decoded"]
    assert task.extra == {}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_record_is_written_as_go_writes_it(case: dict[str, Any]) -> None:
    data = base64.b64decode(case["base64"])
    written = Task.decode(data).encode()
    # keys in the same order, times to the letter; only the HTML escapes, which any reader undoes, are not copied
    assert json.loads(written, object_pairs_hook=list) == json.loads(data, object_pairs_hook=list)


@pytest.mark.parametrize("case", LIFECYCLE, ids=[case["name"] for case in LIFECYCLE])
def test_every_save_of_every_recorded_scenario_survives(case: dict[str, Any]) -> None:
    records = [step["task"] for step in case.get("wire", []) if "task" in step]
    records += [record for record in (case.get("final", {}).get("tasks") or {}).values() if record]
    for record in records:
        try:
            parsed = json.loads(record)
        except ValueError:
            continue  # garbage that the recording seeded
        assert json.loads(Task.decode(record.encode()).encode()) == parsed


def test_what_go_cannot_write_is_refused_here_too() -> None:
    task = Task.create("email:new")
    year_10000 = Instant.parse("9999-12-31T23:59:59.999999999Z").plus(1)
    with pytest.raises(InvalidValue):
        task.replace(deadline=year_10000).encode()
    with pytest.raises(InvalidValue):
        Instant(0).with_offset(24 * 3600)
    with pytest.raises(InvalidValue):
        Task.create("email:new", float("inf"))
    with pytest.raises(InvalidValue):
        Task.create("email:new", print)


def test_key_order_is_gos_then_ours_then_what_was_kept() -> None:
    data = b'{"zzz":1,"next_try_at":"2026-01-01T00:00:00Z","tries":0,"id":"a","dead_letter":"tries","type":"t"}'
    written = Task.decode(data).encode()
    assert list(json.loads(written)) == [
        "id",
        "type",
        "queue",
        "payload",
        "max_tries",
        "state",
        "created",
        "tries",
        "next_try_at",
        "dead_letter",
        "zzz",
    ]
