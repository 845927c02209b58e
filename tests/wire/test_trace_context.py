"""W3C Trace Context: what is one, where a producer's comes from, and that it survives in a task's record."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import ajc
from ajc.errors import InvalidValue
from ajc.headers import encode_headers
from ajc.task import Task
from ajc.trace_context import (
    context_in_headers,
    current_context,
    is_traceparent,
    is_tracestate,
    valid_context,
)

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
BAD = [
    "",
    "junk",
    PARENT.upper(),
    PARENT[:-1],
    PARENT + "-00",
    PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
    PARENT.replace("00f067aa0ba902b7", "0" * 16),
    "ff" + PARENT[2:],
    "01" + PARENT[2:] + ".x",
    PARENT + "\n",
    PARENT.replace("-", "_"),
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_traceparent_is_ignored(text) -> None:
    assert not is_traceparent(text)
    assert valid_context(text, STATE) == ("", "")


@pytest.mark.parametrize("text", [PARENT, "01" + PARENT[2:], "cc" + PARENT[2:] + "-what-comes", PARENT[:-1] + "0"])
def test_a_later_version_is_passed_on_too(text) -> None:
    assert valid_context(text, STATE) == (text, STATE)


@pytest.mark.parametrize(
    "text", [STATE, "a=b", "t@v=x y", "a=b, c=d", "a=b,,c=d", ",".join(f"k{n}=v" for n in range(32))]
)
def test_a_tracestate(text) -> None:
    assert is_tracestate(text)


@pytest.mark.parametrize(
    "text",
    ["", " , ", "a", "A=b", "a=", "a=b=c", "a=ü", "=b", ",".join(f"k{n}=v" for n in range(33)), "a=" + "x" * 511],
)
def test_what_is_no_tracestate_is_left_out_alone(text) -> None:
    assert valid_context(PARENT, text) == (PARENT, "")


@given(st.text())
def test_what_is_passed_on_is_what_opentelemetry_reads(text) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    assert is_traceparent(text) == trace.get_current_span(context).get_span_context().is_valid


def test_it_survives_in_the_record_beside_what_nobody_knows() -> None:
    task = ajc.new_task("a", traceparent=PARENT, tracestate=STATE)
    assert (task.traceparent, task.tracestate) == (PARENT, STATE)
    again = Task.decode(task.replace(state="active", tries=1).encode())
    assert (again.traceparent, again.tracestate, again.extra) == (PARENT, STATE, {})
    assert b"trace" not in ajc.new_task("a").encode()
    odd = Task.decode(b'{"id":"x","type":"a","traceparent":{"not":"ours"},"tracestate":7}')
    assert odd.traceparent == ""
    assert b'"traceparent":{"not":"ours"}' in odd.encode()
    assert b'"tracestate":7' in odd.encode()


@pytest.mark.parametrize(("parent", "state"), [(text, None) for text in BAD if text] + [(None, STATE), (PARENT, "A=b")])
def test_a_producer_is_told_of_a_bad_one(parent, state) -> None:
    with pytest.raises(InvalidValue):
        ajc.new_task("a", traceparent=parent, tracestate=state)


def test_the_current_span_is_taken_up_unless_told_otherwise() -> None:
    tracer = TracerProvider().get_tracer("test")
    assert current_context() == ("", "")
    with tracer.start_as_current_span("order") as span:
        task = ajc.new_task("a")
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        assert task.traceparent == carrier["traceparent"]
        assert trace.format_span_id(span.get_span_context().span_id) in task.traceparent
        assert ajc.new_task("a", traceparent="").traceparent == ""
        assert ajc.new_task("a", traceparent=PARENT).traceparent == PARENT
    assert ajc.new_task("a").traceparent == ""


def test_the_sdk_never_imports_opentelemetry() -> None:
    code = "import sys, ajc; ajc.new_task('a'); print(*(one for one in sys.modules if one.startswith('opentelemetry')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_the_headers_of_a_records_message(name) -> None:
    block = encode_headers([("X", "1"), (name, PARENT), ("TraceState", "a=b"), ("tracestate", "c=d")])
    assert context_in_headers(block) == (PARENT, "a=b,c=d")
    assert context_in_headers(encode_headers([(name, PARENT)])) == (PARENT, "")


@pytest.mark.parametrize("block", [None, b"", b"NATS/1.0\r\n\r\n", b"traceparent", b"NATS/1.0\r\ntraceparent\r\n\r\n"])
def test_headers_without_one(block) -> None:
    assert context_in_headers(block) == ("", "")
