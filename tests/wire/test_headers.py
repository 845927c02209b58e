"""Header blocks: any pairs survive on one line each, any bytes are a block or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc.errors import InvalidName, MalformedHeaders
from ajc.headers import Headers, encode_headers, header_value, parse_headers

NAMES = st.text("abcXYZ-_09!#$", min_size=1, max_size=10)
TASKS = json.loads((Path(__file__).parent.parent / "vectors" / "tasks.json").read_text())["cases"]


@given(st.lists(st.tuples(NAMES, st.text(max_size=20))))
def test_any_values_survive_on_one_line_each(pairs: list[tuple[str, str]]) -> None:
    block = encode_headers(pairs)
    assert block.count(b"\r\n") == len(pairs) + 2
    read = parse_headers(block)
    assert read.status is None
    assert [name for name, _ in read.items] == [name for name, _ in pairs]
    for (_, value), (_, given_value) in zip(read.items, pairs, strict=True):
        assert not set(value) & {"\r", "\n", "\x00"}
        if given_value.isprintable() and given_value == given_value.strip():
            assert value == given_value


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda rest: b"NATS/1.0" + rest)))
def test_any_bytes_are_a_block_or_refused(block: bytes) -> None:
    try:
        read = parse_headers(block)
    except MalformedHeaders as error:
        assert error.reason  # noqa: PT017 - either way is right; another error would fail the test
        return
    assert all(name for name, _ in read.items)


@pytest.mark.parametrize(
    ("block", "read"),
    [
        (b"NATS/1.0\r\n\r\n", Headers()),
        (b"NATS/1.0 503\r\n\r\n", Headers(503)),
        (b"NATS/1.0 503 No Responders\r\n\r\n", Headers(503, "No Responders")),
        (b"NATS/1.0 100 Idle\r\nNats-Last-Stream: 5\r\n\r\n", Headers(100, "Idle", (("Nats-Last-Stream", "5"),))),
        (b"NATS/1.0\r\nA:1\r\nA: \t2 \r\nb:\r\n\r\n", Headers(items=(("A", "1"), ("A", "2"), ("b", "")))),
        (b"NATS/1.0\nA: 1\n\n", Headers(items=(("A", "1"),))),  # bare line feeds, as hand-made clients send them
        (b"NATS/1.0\r\nA: b:c\r\n", Headers(items=(("A", "b:c"),))),
        (b"NATS/1.0\r\nA: a\xffb\r\n\r\n", Headers(items=(("A", "a\ufffdb"),))),
        (b"NATS/1.0\r\nA: \xc2\xa0x\xc2\xa0\r\n\r\n", Headers(items=(("A", "\xa0x\xa0"),))),
        (b"NATS/1.0\r\nA: 1\r\n\r\nB: 2\r\n", Headers(items=(("A", "1"),))),  # the empty line ends it
    ],
)
def test_read(block: bytes, read: Headers) -> None:
    assert parse_headers(block) == read


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"NATS/1.1\r\n\r\n",
        b"NATS/1.0503\r\n\r\n",
        b"NATS/1.0 50\r\n\r\n",
        b"NATS/1.0 abc\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\n folded\r\n\r\n",
        b"A: 1\r\n\r\n",
    ],
)
def test_refused(block: bytes) -> None:
    with pytest.raises(MalformedHeaders) as caught:
        parse_headers(block)
    assert caught.value.reason


def test_the_first_value_that_is_not_blank_counts_in_any_case() -> None:
    read = parse_headers(b"NATS/1.0\r\naj-error:\r\nAJ-ERROR:  \r\nAj-Error: x\r\nAJ-Error: y\r\n\r\n")
    assert read.get("AJ-Error") == read.get("aj-ERROR") == "x"
    assert read.get("AJ-Busy") is None


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "ä", "a\x00", "\r\nX"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        encode_headers({name: "x"})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("line 1\nline 2", b"line 1 line 2"),
        ("a\r\nX: y", b"a X: y"),
        ("\x00a\x7fb\t", b"a b"),
        ("h\u00e4\u00df", "h\u00e4\u00df".encode()),
        ("a\ud800", b"a?"),
        ("\r\n", b""),
    ],
)
def test_line_breaks_and_controls_become_blanks(value: str, written: bytes) -> None:
    assert encode_headers({"A": value}) == b"NATS/1.0\r\nA: " + written + b"\r\n\r\n"
    assert header_value(value).isprintable() or "\ud800" in value


@pytest.mark.parametrize("case", TASKS[:3], ids=[case["name"] for case in TASKS[:3]])
def test_blocks_are_gos(case: dict[str, str]) -> None:
    read = parse_headers(case["headers_raw"].encode())
    assert read.items[0][0] == "Nats-Expected-Last-Subject-Sequence"
    assert encode_headers(read.items) == case["headers_raw"].encode()
