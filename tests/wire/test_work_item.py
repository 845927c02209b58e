"""Queue entries: published as Go publishes them, accepted where Go's worker accepts them."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc.errors import MalformedItem
from ajc.headers import encode_headers
from ajc.subjects import item_of_subject, item_subject
from ajc.work_item import MOST_WAITS, WorkItem

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "work_items.json").read_text())["cases"]
ENQUEUED = [case for case in CASES if case["kind"] == "enqueue"]
DECODED = [case for case in CASES if case["kind"] == "decode"]

REFUSED_THOUGH_GO_ACCEPTS = {"keys_other_case": "keys match exactly, as in the task"}
ACCEPTED_THOUGH_GO_REFUSES = {
    "good_body_with_status_header_404": "Go mistakes an item with that header for an empty poll",
}


@pytest.mark.parametrize("case", ENQUEUED, ids=[case["name"] for case in ENQUEUED])
def test_published_like_go(case: dict[str, Any]) -> None:
    queue, task_id = item_of_subject(case["subject"])
    assert item_subject(queue, task_id) == case["subject"]
    assert WorkItem(task_id).encode() == case["body"].encode()
    if case["headers"]:
        assert encode_headers(case["headers"]).decode() == case["stored_headers_raw"]


@pytest.mark.parametrize("case", DECODED, ids=[case["name"] for case in DECODED])
def test_accepted_or_refused_like_go(case: dict[str, Any]) -> None:
    name = case["name"]
    body = base64.b64decode(case["body_base64"]) if "body_base64" in case else case["body"].encode()
    if (case["accepted"] or name in ACCEPTED_THOUGH_GO_REFUSES) and name not in REFUSED_THOUGH_GO_ACCEPTS:
        item = WorkItem.decode(body)
        assert item.task_id == case.get("task_id", item.task_id)
        assert item.kind == case.get("item_kind", 0)
        assert item.waits == 0
    else:
        with pytest.raises(MalformedItem):
            WorkItem.decode(body)


def test_the_lists_name_cases_that_exist() -> None:
    accepted = {case["name"]: case["accepted"] for case in DECODED}
    assert all(accepted[name] for name in REFUSED_THOUGH_GO_ACCEPTS)
    assert not any(accepted[name] for name in ACCEPTED_THOUGH_GO_REFUSES)


ITEMS = st.builds(
    WorkItem,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, MOST_WAITS),
)


@given(ITEMS)
def test_what_is_written_reads_back_the_same(item: WorkItem) -> None:
    assert WorkItem.decode(item.encode()) == item
    assert list(json.loads(item.encode())) == ["kind", "job", "waits"][: 3 if item.waits else 2]


@given(st.binary(max_size=100))
def test_any_bytes_are_an_item_or_refused(data: bytes) -> None:
    with pytest.raises(MalformedItem):
        WorkItem.decode(data)


@given(st.data(), ITEMS)
def test_any_damaged_item_is_an_item_or_refused(data: st.DataObject, item: WorkItem) -> None:
    body = bytearray(item.encode())
    at = data.draw(st.integers(0, len(body)))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\\ud800", b"{", b"null", b"1e999", b"\xff"]))
    )
    try:
        read = WorkItem.decode(bytes(body))
    except MalformedItem:
        return
    assert WorkItem.decode(read.encode()) == read


@pytest.mark.parametrize(
    ("waits", "read"),
    [
        ("3", 3),
        ("-1", 0),
        ("null", 0),
        ('"3"', 0),
        ("1.5", 0),
        ("[]", 0),
        ("99999999999", MOST_WAITS),
        ("9" * 5000, 0),
        ("1e400", 0),
    ],
)
def test_waits_that_are_none_of_ours_do_not_lose_the_item(waits: str, read: int) -> None:
    assert WorkItem.decode(f'{{"kind":0,"job":"a","waits":{waits}}}'.encode()) == WorkItem("a", 0, read)


@pytest.mark.parametrize("kind", ["9223372036854775808", "1.0", '"0"', "[]", "9" * 5000])
def test_a_kind_that_go_refuses_is_refused(kind: str) -> None:
    with pytest.raises(MalformedItem) as caught:
        WorkItem.decode(f'{{"kind":{kind},"job":"a"}}'.encode())
    assert caught.value.field == "kind"


def test_text_that_utf8_cannot_hold_is_mended() -> None:
    assert WorkItem.decode(b'{"kind":0,"job":"a\xff"}').task_id == "a\ufffd"
    assert WorkItem.decode(b'{"kind":0,"job":"a\\ud800"}').task_id == "a\ufffd"
    assert WorkItem.decode(WorkItem("a\ud800").encode()).task_id == "a\ufffd"


@pytest.mark.parametrize("depth", [10_000 if sys.version_info >= (3, 12) else 1_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    for body in (b"[" * depth, b'{"job":"a","x":' + b"[" * depth + b"]" * depth + b"}"):
        with pytest.raises(MalformedItem):
            WorkItem.decode(body)
