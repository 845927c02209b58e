"""What a handler's parameters ask for: the attempt, the task, or the payload as a type of its own.

The signature is read once, when the handler is registered. A payload that does not fit its type is a `Terminate`
that names the field: no later try could do better.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

import msgspec
import msgspec.inspect

from ajc.errors import InvalidValue
from ajc.task import Task
from ajc.unfit import Unfit

if TYPE_CHECKING:
    from ajc.attempt import Attempt

Source = Callable[["Attempt"], Any]
"""Takes one argument of a handler from the attempt."""

_MAX_ERRORS: Final = 3
_place: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL).match
_missing: Final = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$").match


class Arguments(msgspec.Struct, frozen=True):
    """How a handler is called: positional and keyword arguments, each with where it comes from."""

    positional: tuple[Source, ...]
    keywords: Mapping[str, Source]

    @property
    def attempt_alone(self) -> bool:
        """Whether the attempt is all that it is called with."""
        return self.positional == (_itself,) and not self.keywords

    def call(self, function: Callable[..., Any], attempt: Attempt) -> Any:
        """Call the function with its arguments for this attempt. Raises `Terminate` for a payload that does not fit."""
        if len(self.positional) == 1 and not self.keywords:
            return function(self.positional[0](attempt))
        return function(
            *[take(attempt) for take in self.positional],
            **{name: take(attempt) for name, take in self.keywords.items()},
        )


def read_arguments(handler: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Arguments:
    """Read a handler's signature; `names` are further names for its annotations (a function's local ones).

    A parameter annotated with `Attempt`, called `attempt`, or alone and without annotation is the attempt; one
    annotated with `Task` or called `task` the task; any other annotated one, or one called `payload`, the payload.
    Those with a default that are none of these are left alone. Raises `InvalidValue` for anything else.
    """
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError) as error:
        raise InvalidValue("handler", handler, f"its signature cannot be read: {error}") from None
    hints = _hints(handler, names)
    positional: list[Source] = []
    keywords: dict[str, Source] = {}
    in_order = True  # until one is left out, arguments need no names
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        source = _source(handler, parameter, hints.get(parameter.name, parameter.empty), alone=len(parameters) == 1)
        if source is None:
            in_order = False
        elif parameter.kind is parameter.POSITIONAL_ONLY or (
            in_order and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(source)
        else:
            keywords[parameter.name] = source
    return Arguments(tuple(positional), keywords)


def payload_decoder(kind: Any) -> Callable[[bytes | None], Any]:
    """Return what decodes a payload into this type: msgspec's types, dataclasses, pydantic models, plain bytes.

    Raises `InvalidValue` for a type that no JSON can be decoded into.
    """
    if kind is bytes:
        return lambda payload: payload or b""
    if kind is Any or kind is object:
        return untyped
    if _is_pydantic(kind):
        return _pydantic_decoder(kind)
    try:
        decode = msgspec.json.Decoder(kind).decode
        known = not isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
    except TypeError as error:
        raise InvalidValue("payload type", kind, f"JSON cannot be decoded into it: {error}") from None
    if not known:
        raise InvalidValue("payload type", kind, "JSON cannot be decoded into it")

    def decoded(payload: bytes | None) -> Any:
        try:
            return decode(payload or b"null")
        except msgspec.ValidationError as error:
            raise Unfit(_message(str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unfit(f"payload: {error}") from None

    return decoded


def untyped(payload: bytes | None) -> Any:
    """Return a payload as the JSON value it is, as bytes when it is none, None when there is none."""
    if not payload:
        return None
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload


def _source(handler: Callable[..., Any], parameter: inspect.Parameter, kind: Any, *, alone: bool) -> Source | None:
    bare = kind is parameter.empty
    if (isinstance(kind, type) and issubclass(kind, _attempt_class())) or (bare and parameter.name == "attempt"):
        return _itself
    if kind is Task or (bare and parameter.name == "task"):
        return lambda attempt: attempt.task
    if bare and parameter.name == "payload":
        return lambda attempt: attempt.payload
    if bare and alone:
        return _itself
    if bare or (parameter.default is not parameter.empty and parameter.name != "payload"):
        if parameter.default is not parameter.empty:
            return None
        reason = f"parameter {parameter.name} is none of attempt, task, payload, and has no annotation"
        raise InvalidValue("handler", handler, reason)
    decode = payload_decoder(kind)
    return lambda attempt: decode(attempt.payload_bytes)


def _itself(attempt: Attempt) -> Attempt:
    return attempt


def _attempt_class() -> type[Attempt]:
    from ajc.attempt import Attempt  # noqa: PLC0415  (it imports this module)

    return Attempt


_WORDS: Final[Mapping[str, Callable[[], Any]]] = {"Attempt": _attempt_class, "Task": lambda: Task}


def _hints(handler: Callable[..., Any], names: Mapping[str, Any] | None) -> dict[str, Any]:
    function = inspect.unwrap(handler)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        function = getattr(type(function), "__call__", function)  # noqa: B004  (an object that is called)
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        if name == "return":
            continue
        one = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= get_type_hints(one, getattr(function, "__globals__", {}), dict(names or {}), include_extras=True)
        except NameError as error:
            # `if TYPE_CHECKING: from ajc import Attempt` leaves only the word
            known = _WORDS.get(str(annotation).rpartition(".")[2])
            if known is None:
                raise InvalidValue("handler", handler, f"annotation {annotation} of {name}: {error}") from None
            hints[name] = known()
    return hints


def _is_pydantic(kind: Any) -> bool:
    if "pydantic" not in sys.modules:
        return False  # then nothing can be a model of it
    return hasattr(kind, "__pydantic_validator__") or any(_is_pydantic(inner) for inner in get_args(kind))


def _pydantic_decoder(kind: Any) -> Callable[[bytes | None], Any]:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  (an optional dependency)

    adapter: Any = TypeAdapter(kind)

    def decoded(payload: bytes | None) -> Any:
        try:
            return adapter.validate_json(payload or b"null")
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            lines = [
                ".".join(["payload", *map(str, fault["loc"])]) + f": {fault['msg']}" for fault in faults[:_MAX_ERRORS]
            ]
            raise Unfit("; ".join(lines)) from None

    return decoded


def _message(text: str) -> str:
    """Turn msgspec's "… - at `$.to[0]`" into "payload.to[0]: …"."""
    found = _place(text)
    assert found is not None  # the pattern matches every text
    what, path = found["what"], (found["path"] or "$").replace("$", "payload", 1)
    missing = _missing(what)
    if missing is not None:
        return f"{path}.{missing['name']}: is missing"
    return f"{path}: {what}"
