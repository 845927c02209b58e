"""Ids as segmentio/ksuid writes them; of what it reads, only what it writes."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc import ksuid
from ajc.errors import InvalidValue
from ajc.subjects import is_id

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "ksuid.json").read_text())["cases"]
VALID = [case for case in CASES if case["kind"] == "valid"]
PARSE = [case for case in CASES if case["kind"] == "parse"]
ORDERING = [case for case in CASES if case["kind"] == "ordering"]


@pytest.mark.parametrize("case", VALID, ids=[case["name"] for case in VALID])
def test_text_and_bytes(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["raw_hex"])
    assert ksuid.encode(raw) == case["text"]
    assert ksuid.decode(case["text"]) == raw
    assert ksuid.seconds_of(case["text"]) == case["unix"]


@pytest.mark.parametrize("case", PARSE, ids=[case["name"] for case in PARSE])
def test_parsing_refuses_what_go_refuses_and_every_character_that_is_no_digit(case: dict[str, Any]) -> None:
    text = base64.b64decode(case["text_base64"]).decode("latin-1") if "text_base64" in case else case["text"]
    if case["accepted"] and case["text_again"] == text:
        assert ksuid.decode(text).hex() == case["raw_hex"]
    else:  # Go takes any character for some digit: two texts for one id
        with pytest.raises(InvalidValue):
            ksuid.decode(text)


def test_they_sort_by_their_second() -> None:
    for case in ORDERING:
        assert sorted(case["unsorted"]) == sorted(case["unsorted"], key=ksuid.decode) == case["sorted"]
    assert ksuid.new(1_767_323_045) < ksuid.new(1_767_323_046)


@given(st.binary(min_size=20, max_size=20))
def test_any_20_bytes_survive(raw: bytes) -> None:
    text = ksuid.encode(raw)
    assert len(text) == ksuid.LENGTH
    assert is_id(text)
    assert ksuid.decode(text) == raw


@given(
    st.one_of(st.text(max_size=30), st.text(min_size=27, max_size=27), st.text(ksuid.DIGITS, min_size=27, max_size=27))
)
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        raw = ksuid.decode(text)
    except InvalidValue:
        return
    assert ksuid.encode(raw) == text


def test_new_ids_differ_and_tell_their_second() -> None:
    ids = {ksuid.new(1_767_323_045) for _ in range(2_000)}
    assert len(ids) == 2_000
    assert {ksuid.seconds_of(one) for one in ids} == {1_767_323_045}
    assert abs(ksuid.seconds_of(ksuid.new()) - time.time()) < 60


def test_ids_in_series_differ_and_tell_their_second() -> None:
    ids = [ksuid.serial(1_767_323_045 + at // 1_000) for at in range(3_000)]
    assert len(set(ids)) == 3_000
    assert [ksuid.seconds_of(one) for one in ids] == [1_767_323_045 + at // 1_000 for at in range(3_000)]


def test_a_second_outside_its_range_wraps_as_in_go() -> None:
    assert ksuid.seconds_of(ksuid.new(1_399_999_999)) == 5_694_967_295


def test_only_20_bytes_are_encoded() -> None:
    with pytest.raises(InvalidValue):
        ksuid.encode(b"19 bytes is too few")


def test_a_forked_child_hands_out_other_ids() -> None:
    for make in (ksuid.new, ksuid.serial):
        make(0)  # so that there is something to be shared
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(make(0) for make in (ksuid.new, ksuid.serial) for _ in range(300)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    theirs = {text[at : at + ksuid.LENGTH] for at in range(0, len(text), ksuid.LENGTH)}
    assert len(theirs) == 600
    assert theirs.isdisjoint({make(0) for make in (ksuid.new, ksuid.serial) for _ in range(300)})
