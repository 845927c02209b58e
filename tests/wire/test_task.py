"""The task record beyond the vectors: what is kept, what is mended, what is refused, for any bytes whatever."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ajc.errors import InvalidName, InvalidValue, MalformedTask
from ajc.instant import GO_ZERO, Instant
from ajc.task import FINAL_STATES, Result, Task, TaskState

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: minutes * 60)
# a day within the years 0 to 9999, so that every offset can be written
INSTANTS = st.builds(
    lambda nanoseconds, offset: Instant(nanoseconds).with_offset(offset),
    st.integers(-62_167_132_800 * 10**9, 253_402_214_400 * 10**9 - 1),
    OFFSETS,
)
NUMBERS = st.one_of(
    st.sampled_from(["0", "-0", "1e400", "-1E-400", "1.10", "1e5", "12345678901234567890" * 3, "0.1" + "0" * 60 + "1"]),
    st.integers().map(str),
)
BLANKS = st.sampled_from(["", " ", "\n\t", "\r\n  "])


def spaced(parts: Any, opening: str, closing: str) -> Any:
    return st.tuples(parts, BLANKS).map(lambda it: opening + it[1] + f"{it[1]},{it[1]}".join(it[0]) + it[1] + closing)


# JSON as text, since what matters is that not one byte of it changes
JSON_TEXT = st.recursive(
    st.one_of(st.sampled_from(["null", "true", "false", '"\\u003c"', '"\\/"']), NUMBERS, TEXT.map(json.dumps)),
    lambda inner: st.one_of(
        spaced(st.lists(inner, max_size=3), "[", "]"),
        spaced(st.lists(st.tuples(TEXT.map(json.dumps), inner).map(":".join), max_size=3), "{", "}"),
    ),
    max_leaves=6,
)
RAW = JSON_TEXT.map(lambda text: Raw(text.encode()))
FIELDS = set(Task.__struct_fields__) - {"extra"}


def folded(key: str) -> str:
    return key.replace("\u017f", "s").lower()


def extras(known: set[str]) -> st.SearchStrategy[dict[str, Raw]]:
    return st.dictionaries(TEXT.filter(lambda key: folded(key) not in known), RAW, max_size=3)


RESULTS = st.builds(Result, RAW, INSTANTS, extras({"payload", "completed"}))
TASKS = st.builds(
    Task,
    id=TEXT,
    type=TEXT,
    queue=TEXT,
    dependencies=st.lists(TEXT, max_size=3).map(tuple),
    dependency_results=st.one_of(
        st.none(), st.dictionaries(TEXT, st.one_of(st.none(), RESULTS), min_size=1, max_size=2)
    ),
    load_dependencies=st.booleans(),
    payload=st.one_of(st.none(), st.binary(max_size=50)),
    deadline=st.one_of(st.none(), INSTANTS),
    max_tries=INT64,
    result=st.one_of(st.none(), RESULTS),
    state=st.one_of(st.sampled_from(list(TaskState)).map(str), TEXT),
    created=INSTANTS,
    tried=st.one_of(st.none(), INSTANTS),
    tries=INT64,
    last_err=TEXT,
    signature=TEXT,
    next_try_at=st.one_of(st.none(), INSTANTS),
    cancelled=st.one_of(st.none(), INSTANTS),
    dead_letter=TEXT,
    extra=extras(FIELDS),
)
GOOD = (
    b'{"id":"a","type":"t","queue":"Q","payload":"e30=","max_tries":10,"state":"new","created":"2026-01-02T03:04:05Z",'
    b'"tries":0%b}'
)


def offsets(task: Task) -> list[int]:
    moments = [task.deadline, task.created, task.tried, task.next_try_at, task.cancelled]
    results = [task.result, *(result for _, result in sorted((task.dependency_results or {}).items()))]
    moments += [result.completed for result in results if result is not None]
    return [moment.offset for moment in moments if moment is not None]


@given(TASKS)
def test_what_is_written_reads_back_the_same(task: Task) -> None:
    again = Task.decode(task.encode())
    assert again == task
    assert offsets(again) == offsets(task)
    assert list(again.extra) == list(task.extra)  # in their order
    assert again.encode() == task.encode()


@given(TASKS, st.binary(max_size=40), INSTANTS)
def test_a_completed_task_is_written_the_same_from_what_it_was(task: Task, answer: bytes, now: Instant) -> None:
    usual = task.replace(result=None, dependency_results=None, extra={})
    for active in (task.replace(state="active"), usual.replace(state="active")):
        complete = active.replace(state="complete", result=Result.of_bytes(answer, now))
        assert complete.encode_completed(active, active.encode()) == complete.encode()


def started(before: Task, now: Instant) -> Task:
    return before.replace(state="active", tries=before.tries + 1, tried=now, last_err="", next_try_at=None)


@given(TASKS, INSTANTS)
def test_a_started_task_is_written_the_same_from_what_it_was(task: Task, now: Instant) -> None:
    fresh = task.replace(state="new", tries=0, tried=None, last_err="", next_try_at=None)
    plain = fresh.replace(signature="", cancelled=None, dead_letter="", traceparent="", tracestate="", extra={})
    for before in (task.replace(tries=1), fresh, plain):
        body = before.encode()
        assert started(before, now).encode_started(before, body) == started(before, now).encode()


@pytest.mark.parametrize(
    "body",
    [
        GOOD % b"",
        GOOD % b',"traceparent":"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"',
        b'{"last_err":"earlier",' + (GOOD % b"")[1:],
        b'{"next_try_at":"2026-01-02T03:04:05Z",' + (GOOD % b"")[1:],
        b'{"last_err":null,"next_try_at":null,' + (GOOD % b"")[1:],
        b'{"tried":"2025-01-02T03:04:05Z","unknown":[1],' + (GOOD % b"")[1:],
        b'{"tried":"2025-01-02T03:04:05Z",' + (GOOD % b"")[1:],
        b'{"tried":null,"result":null,' + (GOOD % b"")[1:],
        (GOOD % b"").replace(b'"Q"', b'"Q\\ud800"'),
        (GOOD % b"").replace(b'"Q"', b'"Q\xff"'),
        (GOOD % b"").replace(b'"Q"', b'",\\"state\\":\\"new\\",\\"created\\":\\""'),
        (GOOD % b"").replace(b'":', b'": '),
        b'{"id":"a","type":"t","queue":"Q","max_tries":10,"created":"2026-01-02T03:04:05Z","state":"new","tries":0}',
        b'{"id":"a","type":"t","state":"new","created":"2026-01-02T03:04:05.5+02:00","tries":0}',
        b'{"id":"a","type":"t","state":"new","created":"2026-01-02T03:04:05Z","max_tries":3,"tries":0}',
    ],
)
def test_a_started_task_means_the_same_whoever_wrote_it_before(body: bytes) -> None:
    before = Task.decode(body)
    active = started(before, Instant.parse("2026-03-04T05:06:07.000000089Z"))
    written = active.encode_started(before, body)
    assert Task.decode(written) == active == Task.decode(active.encode())
    complete = active.replace(state="complete", result=Result.of_bytes(b"ok", active.created))
    for text in (written, complete.encode_completed(active, written)):
        json.loads(text, object_pairs_hook=once)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key is written twice"
    return dict(pairs)


def test_what_a_start_takes_away_does_not_stay_behind_a_null() -> None:
    """Go keeps a text where a null follows it under the same key."""
    body = b'{"last_err":"x","last_err":null,' + (GOOD % b"")[1:]
    before = Task.decode(body)
    written = started(before, Instant.parse("2026-03-04T05:06:07Z")).encode_started(before, body)
    assert b"last_err" not in written


def test_a_start_leaves_what_it_does_not_change_as_it_was() -> None:
    body = (
        b'{"type":"t","id":"a","max_tries":3,"queue":"Q","state":"new","created":"2026-01-02T03:04:05.50Z","tries":0}'
    )
    before = Task.decode(body)
    written = started(before, Instant.parse("2026-03-04T05:06:07Z")).encode_started(before, body)
    assert written == (
        b'{"type":"t","id":"a","max_tries":3,"queue":"Q","state":"active","created":"2026-01-02T03:04:05.50Z",'
        b'"tried":"2026-03-04T05:06:07Z","tries":1}'
    )


def test_a_trace_context_from_headers_is_kept_by_the_start() -> None:
    before = Task.decode(GOOD % b"").replace(traceparent="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
    active = started(before, Instant.parse("2026-03-04T05:06:07Z"))
    assert Task.decode(active.encode_started(before, GOOD % b"")).traceparent == before.traceparent


@given(TASKS)
def test_what_is_written_is_json_for_any_reader(task: Task) -> None:
    parsed = json.loads(task.encode())
    assert parsed["id"] == task.id
    assert parsed["max_tries"] == task.max_tries


@given(st.dictionaries(TEXT.filter(lambda key: folded(key) not in FIELDS), JSON_TEXT, min_size=1, max_size=4))
def test_unknown_keys_survive_byte_for_byte(unknown: dict[str, str]) -> None:
    members = "".join(f",{json.dumps(key)}:{value}" for key, value in unknown.items())
    task = Task.decode(GOOD % members.encode())
    written = task.replace(state="active", tries=1).encode()
    for key, value in unknown.items():
        assert bytes(task.extra[key]) == value.encode()
        assert b":" + value.encode() in written
    assert Task.decode(written).extra == task.extra


def refuses_or_reads(data: bytes) -> None:
    try:
        task = Task.decode(data)
    except MalformedTask as error:
        assert error.reason  # noqa: PT017 - either way is right; another error would fail the test
    else:
        assert Task.decode(task.encode()) == task


@given(st.binary(max_size=200))
def test_any_bytes_are_a_task_or_refused(data: bytes) -> None:
    refuses_or_reads(data)


@given(st.data(), TASKS)
def test_any_damaged_record_is_a_task_or_refused(data: st.DataObject, task: Task) -> None:
    record = bytearray(task.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(record)))
        until = data.draw(st.integers(at, min(len(record), at + 4)))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=3), st.sampled_from([b'"', b"\\ud800", b"{", b"]", b"null", b"1e999", b",", b"\xff"])
            )
        )
        record[at:until] = piece
    refuses_or_reads(bytes(record))


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), JSON_TEXT, max_size=6))
def test_any_value_under_any_known_key_is_read_or_refused(members: dict[str, str]) -> None:
    refuses_or_reads(("{" + ",".join(f'"{key}":{value}' for key, value in members.items()) + "}").encode())


C_LEVELS = sys.version_info >= (3, 12)
"""Whether this Python counts the levels of C code apart, and lets it have more."""


@pytest.mark.parametrize("depth", [10_000, 200_000] if C_LEVELS else [1_000, 10_000, 200_000])
@pytest.mark.parametrize("place", [b',"x":%b', b',"result":{"payload":%b}', b',"result":{"x":%b}', b',"id":%b', b"%b"])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")])
def test_deep_nesting_is_refused(depth: int, place: bytes, brackets: tuple[bytes, bytes]) -> None:
    deep = brackets[0] * depth + b"1" + brackets[1] * depth
    for data in (GOOD % (place % deep), deep):
        with pytest.raises(MalformedTask):
            Task.decode(data)


def test_nesting_that_others_can_take_is_read() -> None:
    deep = b"[" * 200 + b"]" * 200
    assert bytes(Task.decode(GOOD % (b',"x":' + deep)).extra["x"]) == deep


def test_reading_near_the_end_of_the_stack_is_no_crash() -> None:
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
            return
        data = GOOD % (b',"x":' + b"[" * 200 + b"]" * 200)
        if C_LEVELS:
            assert Task.decode(data).extra
            return
        with pytest.raises(MalformedTask):
            Task.decode(data)

    down(sys.getrecursionlimit() - 200)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b'"a\xffb"', "a\ufffdb"),
        (b'"\xed\xa0\x80"', "\ufffd" * 3),  # one for each byte, as in Go
        (b'"\xe6\x97"', "\ufffd" * 2),
        (b'"\\ud800x"', "\ufffdx"),
        (b'"\\ude80\\ud83d"', "\ufffd\ufffd"),
        (b'"\\\\ud800"', "\\ud800"),  # an escaped backslash, not a surrogate
        (b'"\\ud83d\\ude80"', "\U0001f680"),
    ],
)
def test_text_that_utf8_cannot_hold_is_mended_wherever_it_stands(written: bytes, read: str) -> None:
    task = Task.decode(
        GOOD
        % b',"last_err":%b,"x":%b,"result":{"payload":%b},"dependency_results":{"d":{"payload":%b}}'.replace(
            b"%b", written
        )
    )
    assert task.last_err == read
    assert json.loads(bytes(task.extra["x"])) == read
    assert task.result is not None
    assert task.result.value == read
    assert task.dependency_results is not None
    assert task.dependency_results["d"] is not None
    assert task.dependency_results["d"].value == read
    json.loads(task.encode().decode())


def test_a_lone_surrogate_in_our_own_text_is_written_as_a_replacement() -> None:
    task = Task.create("t").replace(last_err="a\ud800", dependencies=("\udfff",), dependency_results={"\ud801": None})
    again = Task.decode(task.encode())
    assert again.last_err == "a\ufffd"
    assert again.dependencies == ("\ufffd",)
    assert again.dependency_results == {"\ufffd": None}


@pytest.mark.parametrize("spelling", ["ID", "State", "\u017ftate", "Payload", "TRIES"])
def test_a_key_that_other_readers_would_take_for_a_known_one_is_refused(spelling: str) -> None:
    with pytest.raises(MalformedTask, match="would be taken for"):
        Task.decode(GOOD % f',"{spelling}":"x"'.encode())


def test_our_own_keys_in_another_case_are_unknown_keys_since_go_knows_neither() -> None:
    assert bytes(Task.decode(GOOD % b',"Cancelled":true').extra["Cancelled"]) == b"true"


@pytest.mark.parametrize(
    ("member", "key"),
    [
        (b',"cancelled":false', "cancelled"),
        (b',"cancelled":"yes"', "cancelled"),
        (b',"next_try_at":1767323045', "next_try_at"),
        (b',"dead_letter":{"a":1}', "dead_letter"),
        (b',"dead_letter":[1],"cancelled":1,"z":0', "cancelled"),
    ],
)
def test_a_foreign_meaning_of_our_own_keys_is_kept_until_we_write_ours(member: bytes, key: str) -> None:
    task = Task.decode(GOOD % member)
    assert getattr(task, key) in (None, "")
    assert member.split(b",")[1].split(b":", 1)[1] in task.encode()
    ours = task.replace(**{key: "tries" if key == "dead_letter" else Instant(0)})
    assert task.encode().count(b'"%b"' % key.encode()) == ours.encode().count(b'"%b"' % key.encode()) == 1
    assert getattr(Task.decode(ours.encode()), key) == getattr(ours, key)


def test_every_fault_names_its_field() -> None:
    def field(member: bytes) -> str:
        with pytest.raises(MalformedTask) as caught:
            Task.decode(GOOD % member)
        assert str(caught.value).startswith("malformed task: ")
        return caught.value.field

    assert field(b',"tries":1.5') == "tries"
    assert field(b',"tries":9223372036854775808') == "tries"
    assert field(b',"deadline":"soon"') == "deadline"
    assert field(b',"tried":"2026-02-30T00:00:00Z"') == "tried"
    assert field(b',"created":""') == "created"
    assert field(b',"payload":"e"') == "payload"
    assert field(b',"result":[]') == "result"
    assert field(b',"result":{"completed":"x"}') == "result.completed"
    assert field(b',"result":{"completed":5}') == "result.completed"
    assert field(b',"dependency_results":{"a":{"completed":"x"}}') == "dependency_results.a.completed"
    assert field(b',"result":{"Payload":1}') == "result"


def test_missing_keys_are_gos_zero_values() -> None:
    task = Task.decode(b"{}")
    assert task == Task(id="", type="", max_tries=0, state="", created=GO_ZERO)
    assert not task.final


def test_final_states() -> None:
    assert {state for state in TaskState if Task(id="a", type="t", state=state).final} == FINAL_STATES
    assert {str(state) for state in FINAL_STATES} == {"expired", "terminated", "complete", "queue_error", "unreachable"}


def test_create_takes_bytes_as_they_are_and_writes_anything_else_as_json() -> None:
    assert Task.create("t", b"\xff\x00").payload == b"\xff\x00"
    assert Task.create("t", {"to": "ä", "n": 2**70}).payload == '{"to":"ä","n":1180591620717411303424}'.encode()
    assert Task.create("t").payload is None
    assert Task.create("t", [None, 1.5]).payload == b"[null,1.5]"
    assert Task.create("t", "").payload == b'""'
    task = Task.create("t", id="order_7:a-B", queue="Q", deadline=Instant(5), max_tries=0, created=Instant(1))
    assert (task.id, task.queue, task.deadline, task.max_tries, task.created) == ("order_7:a-B", "Q", 5, 0, 1)
    assert (task.state, task.tries) == ("new", 0)
    assert re.fullmatch("[0-9A-Za-z]{27}", Task.create("t").id)


@pytest.mark.parametrize("bad", [float("nan"), [1, {"a": (float("inf"),)}], object(), {1j: 2}, "\ud800", [10**5000]])
def test_create_refuses_what_json_cannot_say(bad: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        Task.create("t", bad)
    assert caught.value.field == "payload"


def test_create_refuses_a_payload_that_holds_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidValue, match="holds itself"):
        Task.create("t", endless)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"type": "a.b"}, InvalidName),
        ({"type": "catchall"}, InvalidName),
        ({"type": ""}, InvalidName),
        ({"id": "a b"}, InvalidName),
        ({"id": ""}, InvalidName),
        ({"queue": "a:b"}, InvalidName),
        ({"max_tries": 1.5}, InvalidValue),
        ({"max_tries": True}, InvalidValue),
        ({"max_tries": 2**63}, InvalidValue),
        ({"deadline": Instant(10**21)}, InvalidValue),
    ],
)
def test_create_checks_what_cannot_be_stored(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Task.create(**{"type": "t", **arguments})


@given(st.binary(max_size=100))
def test_a_reply_is_its_bytes(data: bytes) -> None:
    result = Result.of_bytes(data, Instant(5))
    assert result.data == data
    assert Result.decode(result.encode()) == result


@pytest.mark.parametrize(
    ("payload", "data", "raw"),
    [
        (b'"ZG9uZQ=="', b"done", "ZG9uZQ=="),
        (b'""', b"", ""),
        (b'"no base64!"', b'"no base64!"', "no base64!"),
        (b"null", b"null", None),
        (b'{"a":[1,2.5]}', b'{"a":[1,2.5]}', {"a": [1, 2.5]}),
        (b"1e400", b"1e400", float("inf")),
        (b"-" + b"9" * 60, b"-" + b"9" * 60, -(10**60 - 1)),
        (b"9" * 5000, b"9" * 5000, float("inf")),
    ],
)
def test_a_result_as_bytes_and_as_it_was_written(payload: bytes, data: bytes, raw: Any) -> None:
    result = Result(Raw(payload))
    assert result.data == data
    assert result.raw == raw


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (b'{"sent":"x"}', {"sent": "x"}),
        (b"null", None),
        (b'"text"', "text"),
        (b"1e400", float("inf")),
        (b"", b""),
        (b"done", b"done"),
        (b"%PDF \xff", b"%PDF \xff"),
        (b'"\xff"', b'"\xff"'),
        (b'"\\ud800"', b'"\\ud800"'),
        (b"NaN", b"NaN"),
        (b"[" * 100_000, b"[" * 100_000),
    ],
)
def test_a_value_is_what_the_handler_returned(returned: bytes, value: Any) -> None:
    result = Result.of_bytes(returned, Instant(5))
    assert result.value == value
    assert result.data == returned


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b'"no base64!"', "no base64!"),
        (b'"ZG9uZR=="', "ZG9uZR=="),  # bits left over: nobody encodes so
        (b'"ZG9uZQ"', "ZG9uZQ"),
        (b'"ZG9u\\nZQ=="', "ZG9u\nZQ=="),
        (b'"ZG9u\\u005aQ=="', b"done"),
        (b"null", None),
        (b'{"a":[1,"ZG9uZQ=="]}', {"a": [1, "ZG9uZQ=="]}),
    ],
)
def test_a_value_that_is_no_answer_in_base64_is_as_it_stands(payload: bytes, value: Any) -> None:
    assert Result(Raw(payload)).value == value


class Sent(msgspec.Struct):
    to: list[str]


def test_a_result_as_a_type() -> None:
    result = Result.of_bytes(b'{"to":["x"]}', Instant(5))
    assert result.as_(Sent) == Sent(["x"])
    assert result.as_(dict[str, list[str]]) == {"to": ["x"]}
    assert result.as_(bytes) == b'{"to":["x"]}'
    assert Result(Raw(b'{"to":["x"]}')).as_(Sent) == Sent(["x"])
    with pytest.raises(MalformedTask) as refused:
        Result.of_bytes(b'{"to":[7]}', Instant(5)).as_(Sent)
    assert str(refused.value) == "malformed task: result.to[0]: Expected `str`, got `int`"
    with pytest.raises(MalformedTask):
        Result.of_bytes(b"%PDF", Instant(5)).as_(Sent)
    for kind in (7, object.__init__, Refusing):
        with pytest.raises(InvalidValue):
            result.as_(kind)


class Refusing:
    """No JSON can be decoded into it."""


class Model(pydantic.BaseModel):
    to: list[str]


def test_a_result_as_a_pydantic_model() -> None:
    assert Result.of_bytes(b'{"to":["x"]}', Instant(5)).as_(Model) == Model(to=["x"])
    with pytest.raises(MalformedTask, match=r"to\.0"):
        Result.of_bytes(b'{"to":[7]}', Instant(5)).as_(Model)


def test_a_result_too_deep_for_a_value_is_refused() -> None:
    with pytest.raises(MalformedTask):
        _ = Result(Raw(b"[" * 100_000 + b"]" * 100_000)).value
    with pytest.raises(MalformedTask):
        _ = Result(Raw(b"[" * 100_000 + b"]" * 100_000)).raw
