"""The schemas of docs/protocol: what bridges send fits, whatever the task, and what is none does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documents import cases, data, schema
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ajc.instant import Instant
from ajc.task import Result, Task
from ajc_bridge.decision.lifecycle import Start, apply

TASK = schema("task")
PROGRESS = schema("progress")
# Times that RFC 3339 can write with any offset.
INSTANTS = st.builds(
    lambda nanoseconds, minutes: Instant(nanoseconds).with_offset(minutes * 60),
    st.integers(-62_000_000_000 * 10**9, 253_000_000_000 * 10**9),
    st.integers(-1439, 1439),
)
NAMES = st.from_regex(r"\A[a-zA-Z0-9_:-]{1,128}\Z")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
).map(lambda value: Raw(json.dumps(value).encode()))
RESULTS = st.builds(Result, JSON, INSTANTS)
TASKS = st.builds(
    Task,
    id=NAMES,
    type=NAMES,
    queue=TEXT,
    dependencies=st.lists(TEXT, max_size=3).map(tuple),
    dependency_results=st.none() | st.dictionaries(TEXT, st.none() | RESULTS, min_size=1, max_size=2),
    load_dependencies=st.booleans(),
    payload=st.none() | st.binary(max_size=50),
    deadline=st.none() | INSTANTS,
    max_tries=st.integers(-(2**63), 2**63 - 1),
    result=st.none() | RESULTS,
    state=st.sampled_from(["new", "retry", "active", ""]),
    created=INSTANTS,
    tried=st.none() | INSTANTS,
    tries=st.integers(-(2**63), 2**63 - 1),
    last_err=TEXT,
    signature=TEXT,
    next_try_at=st.none() | INSTANTS,
    extra=st.dictionaries(TEXT.map("x-{}".format), JSON, max_size=3),
)


@pytest.mark.rule("EXEC-4")
@given(TASKS, INSTANTS)
def test_whatever_a_task_is_as_a_request_it_fits_the_schema(task: Task, now: Instant) -> None:
    TASK.validate(json.loads(apply(task, Start(), now).encode()))


@pytest.mark.parametrize(
    "case", [case for case in cases("requests") if case["answer"] == "run"], ids=lambda c: c["name"]
)
def test_the_vectors_that_are_run_fit_the_schema(case: dict[str, Any]) -> None:
    TASK.validate(json.loads(case["body"]))


GOOD = json.loads(cases("requests")[0]["body"])


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "not base64!"},
        {"payload": "YQ"},
        {"payload": ["a"]},
        {"id": ""},
        {"id": "a b"},
        {"type": "a.b"},
        {"type": "x" * 129},
        {"tries": "1"},
        {"tries": 1.5},
        {"tries": 2**63},
        {"state": "new"},
        {"created": "yesterday"},
        {"created": "2026-11-24 07:00:00Z"},
        {"deadline": 5},
        {"dependencies": [None]},
    ],
    ids=str,
)
def test_what_is_no_task_of_a_request_does_not_fit(change: dict[str, Any]) -> None:
    assert TASK.is_valid(GOOD)
    assert not TASK.is_valid(GOOD | change)


@pytest.mark.parametrize("key", TASK.schema["required"])
def test_what_a_responder_may_count_on_is_required(key: str) -> None:
    assert not TASK.is_valid({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.rule("EXEC-27")
@pytest.mark.parametrize("case", cases("beats"), ids=lambda case: case["name"])
def test_the_schema_of_progress_tells_progress_from_junk(case: dict[str, Any]) -> None:
    body = data(case["body_base64"])
    if not body:
        assert case["means"] == "beat"
        return
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        assert case["means"] == "junk"
        return
    assert PROGRESS.is_valid(value) == (case["means"] != "junk")
    if case["means"] == "progress":
        assert (value.get("percent"), value.get("message")) == (case["percent"], case["message"])


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
