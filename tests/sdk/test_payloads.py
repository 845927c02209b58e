"""What handlers may ask for, and what a payload that does not fit says."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pydantic
import pytest

import ajc
from ajc.payloads import payload_decoder, read_arguments, untyped
from ajc.testing import run

if TYPE_CHECKING:
    from ajc.attempt import Attempt


class Address(msgspec.Struct):
    street: str


class Person(msgspec.Struct):
    name: str
    address: Address
    tags: list[int] = []


@dataclass
class Point:
    x: int
    y: int = 0


class Model(pydantic.BaseModel):
    to: str
    inner: list[dict[str, int]] = []


def handlers() -> dict[str, Any]:
    def attempt_by_annotation(a: Attempt) -> Any:
        return a.payload

    def attempt_by_name(attempt) -> Any:  # type: ignore[no-untyped-def]
        return attempt.payload

    def attempt_alone(whatever) -> Any:  # type: ignore[no-untyped-def]
        return whatever.payload

    def payload_by_name(payload) -> Any:  # type: ignore[no-untyped-def]
        return payload

    def payload_annotated(data: dict[str, Any]) -> Any:
        return data

    def from_the_task(task: ajc.Task) -> Any:
        return untyped(task.payload)

    def all_three(attempt: ajc.Attempt, payload: dict[str, Any], *, task: ajc.Task) -> Any:
        assert attempt.task is task
        return payload

    def with_more(payload: Any, limit: int = 3, *args: Any, **more: Any) -> Any:
        assert (limit, args, more) == (3, (), {})
        return payload

    def positional(payload: Any, /) -> Any:
        return payload

    async def asynchronous(attempt: Attempt) -> Any:
        return attempt.payload

    class Callable:
        async def __call__(self, payload: dict[str, Any]) -> Any:
            return payload

        def method(self, payload: dict[str, Any]) -> Any:
            return payload

    return {
        **{
            function.__name__: function
            for function in list(locals().values())
            if callable(function) and function is not Callable
        },
        "object": Callable(),
        "bound": Callable().method,
        "partial": functools.partial(with_more, limit=3),
    }


@pytest.mark.parametrize("name", handlers())
def test_a_handler_gets_what_it_asks_for(name: str) -> None:
    assert run(handlers()[name], {"n": 1}) == {"n": 1}


def test_nothing_asked_for() -> None:
    assert run(lambda: 7) == 7


def test_what_cannot_be_served_is_refused_at_registration() -> None:
    class Odd:
        pass

    def two(a, b) -> None:  # type: ignore[no-untyped-def]
        pass

    def odd(payload: Odd) -> None:
        pass

    def unknown(payload: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    for handler in (two, odd, unknown):
        with pytest.raises(ajc.InvalidValue):
            read_arguments(handler)
    with pytest.raises(ajc.InvalidValue):
        payload_decoder(Odd)


def test_local_classes_are_found_where_the_handler_is_registered() -> None:
    class Local(msgspec.Struct):
        n: int

    app = ajc.Responder()

    @app.handler("local")
    def local(payload: Local) -> int:
        return payload.n

    with pytest.raises(ajc.AlreadyExists):
        app.handler("local")(local)
    assert app.handlers["local"].arguments


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        (Person, {"name": "a", "address": {"street": "b"}}, Person("a", Address("b"))),
        (Point, {"x": 1}, Point(1)),
        (Model, {"to": "x"}, Model(to="x")),
        (list[Model], [{"to": "x"}], [Model(to="x")]),
        (int | None, None, None),
        (bytes, b"\x00", b"\x00"),
        (Any, {"a": 1}, {"a": 1}),
        (Annotated[int, msgspec.Meta(ge=1)], 1, 1),
    ],
)
def test_types(kind: Any, payload: Any, value: Any) -> None:
    raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    assert payload_decoder(kind)(raw) == value


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (Person, {"name": "a", "address": {"street": 1}}, r"payload\.address\.street: Expected `str`, got `int`"),
        (Person, {"name": "a", "address": {}}, r"payload\.address\.street: is missing"),
        (
            Person,
            {"name": "a", "address": {"street": "b"}, "tags": [1, "x"]},
            r"payload\.tags\[1\]: Expected `int`",
        ),
        (Person, None, "payload: Expected `object`, got `null`"),
        (Point, {}, r"payload\.x: is missing"),
        (Model, {"to": 1}, r"payload\.to: "),
        (Model, {"to": "x", "inner": [{"a": "b"}]}, r"payload\.inner\.0\.a: "),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "payload: Expected `int` >= 1"),
        (Person, b"{nope", "payload: "),
        (Person, b"\xff", "payload: "),
        (Model, b"{nope", "payload: "),
        (list, b"[" * 100_000, "payload: "),
    ],
)
def test_a_payload_that_does_not_fit_is_a_terminate_with_the_field(kind: Any, payload: Any, text: str) -> None:
    raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    with pytest.raises(ajc.Terminate, match="^" + text):
        payload_decoder(kind)(raw)


@pytest.mark.parametrize(
    ("raw", "value"), [(None, None), (b"", None), (b"null", None), (b"[1]", [1]), (b"\xff", b"\xff"), (b"{", b"{")]
)
def test_untyped(raw: bytes | None, value: Any) -> None:
    assert untyped(raw) == value
