"""What Go takes in and what it refuses: the same here, except where a list below says otherwise and why."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ajc.errors import MalformedTask
from ajc.task import Task

VECTORS = Path(__file__).parent.parent / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "go_decode.json").read_text())["cases"]

KEY_CASE = "keys match exactly: a second spelling of a key would let two readers see two tasks"
REFUSED_THOUGH_GO_ACCEPTS = {
    "null": "no writer stores null; it would be a task without id and type",
    "keys_upper": KEY_CASE,
    "key_unicode_fold_long_s": KEY_CASE,
    "key_exact_then_other_case": KEY_CASE,
    "key_other_case_then_exact": KEY_CASE,
    'result_{"PAYLOAD":1,"Completed":"2026-01-01T00:00:00Z"}': KEY_CASE,
    'payload_"e3\\n0=\\r\\n"': "no writer breaks lines in base64",
    "payload_[]": "no writer stores bytes as an array of numbers",
    "payload_[1,2,255]": "no writer stores bytes as an array of numbers",
    "payload_[null]": "no writer stores bytes as an array of numbers",
    "created_2026-01-02T03:04:05,5Z": "RFC 3339 has a point",
    "created_2026-01-02T03:04:05+24:00": "no such offset; Go cannot write it",
    "created_2026-01-02T03:04:05+02:60": "no such offset; Go cannot write it",
    "created_2026-01-02T3:04:05Z": "RFC 3339 has two digits",
    "dependencies_[null]": "a null names no task",
    "result_nested_9990_deep": "nesting is limited to what every reader can take",
}
ACCEPTED_THOUGH_GO_REFUSES = {
    'result_{"payload":1e400,"completed":"2026-01-01T00:00:00Z"}': "numbers are kept as written, never read as floats",
    "created_2026-01-02T03:04:05\\u005a": "an escape in JSON text is the character it stands for",
}
READ_DIFFERENTLY = {
    "duplicate_result_merges": "the last of repeated keys counts, whole",
    "duplicate_dependency_results_merges": "the last of repeated keys counts, whole",
    "duplicate_tries_then_null": "the last of repeated keys counts, null included",
}


def input_of(case: dict[str, Any]) -> bytes:
    if "input_template" in case:
        part = case["input_template"]
        return (
            part["prefix"] + part["open"] * part["repeat"] + part["close"] * part["repeat"] + part["suffix"]
        ).encode()
    return base64.b64decode(case["input_base64"]) if "input_base64" in case else case["input"].encode()


def rounded(decoded: dict[str, Any]) -> dict[str, Any]:
    """Go sends a result's numbers through float64."""
    result = decoded["result"]
    if result and isinstance(result["payload"], int):
        return decoded | {"result": result | {"payload": float(result["payload"])}}
    return decoded


def test_the_lists_name_cases_that_exist() -> None:
    names = {case["name"]: case["accepted"] for case in CASES}
    assert all(names[name] for name in (*REFUSED_THOUGH_GO_ACCEPTS, *READ_DIFFERENTLY))
    assert not any(names[name] for name in ACCEPTED_THOUGH_GO_REFUSES)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_accepted_or_refused_like_go(case: dict[str, Any], values: Callable[[Task], dict[str, Any]]) -> None:
    name = case["name"]
    accepted = (case["accepted"] or name in ACCEPTED_THOUGH_GO_REFUSES) and name not in REFUSED_THOUGH_GO_ACCEPTS
    if not accepted:
        with pytest.raises(MalformedTask) as caught:
            Task.decode(input_of(case))
        assert caught.value.reason
        return
    task = Task.decode(input_of(case))
    assert Task.decode(task.encode()) == task
    if not case["accepted"] or name in READ_DIFFERENTLY:
        return
    if "decoded" in case:
        assert rounded(values(task)) == rounded(case["decoded"])
    if "output" in case:  # what Go would save of it is the same task, but for what Go drops
        assert rounded(values(task)) == rounded(values(Task.decode(case["output"].encode())))
