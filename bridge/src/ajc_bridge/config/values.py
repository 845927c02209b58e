"""The kinds of values a key may have: each says in one line what it wants and what it got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator
from pydantic.fields import FieldInfo

from ajc.duration import format_duration, parse_duration
from ajc.errors import AjcError
from ajc.subjects import CATCHALL, is_id, is_queue, is_type

SECOND = 1_000_000_000
NO_LIMIT = -1
LARGEST = 2**31 - 1


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except AjcError:
            pass
    raise ValueError(f'must be a duration like "30s", "1h30m" or "7d", not {shown(value)}')


def shown(value: Any) -> str:
    """Return the value as a reader would write it in the file, cut to a readable length."""
    text = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a line of a terminal


def at_least(lowest: int) -> AfterValidator:
    """Accept a duration in nanoseconds, not shorter than `lowest`."""

    def check(value: int) -> int:
        if value < lowest:
            raise ValueError(f"must be at least {format_duration(lowest)}, not {format_duration(value)}")
        return value

    return AfterValidator(check)


def nothing_or_at_least(lowest: int) -> AfterValidator:
    """Accept a duration in nanoseconds that is 0, or not shorter than `lowest`."""

    def check(value: int) -> int:
        if value and value < lowest:
            raise ValueError(f"must be 0s or at least {format_duration(lowest)}, not {format_duration(value)}")
        return value

    return AfterValidator(check)


def between(low: int, high: int) -> AfterValidator:
    """Accept a number from `low` to `high`, both allowed."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"must be {low} to {high}, not {value}")
        return value

    return AfterValidator(check)


def _limit(value: int) -> int:
    if value != NO_LIMIT and not 1 <= value <= LARGEST:
        raise ValueError(f"must be 1 or more, or -1 for no limit, not {value}")
    return value


def _count(value: int) -> int:
    if not 0 <= value <= LARGEST:
        raise ValueError(f"must be 1 or more, or 0 for no limit, not {value}")
    return value


def _named(what: str, grammar: str, fits: Callable[[str], bool]) -> AfterValidator:
    def check(value: str) -> str:
        if not fits(value):
            raise ValueError(f"{what} must match {grammar}, not {shown(value)}")
        return value

    return AfterValidator(check)


_TAKEN = (
    "CHORIA_AJ.T",
    "CHORIA_AJ.Q",
    "CHORIA_AJ.D",
    "CHORIA_AJ.DLQ",
    "CHORIA_AJ.E",
    "ajc.cancel",
    "ajc.beat",
    "_INBOX",
)


def _subject_prefix(value: str) -> str:
    tokens = value.split(".")
    if not all(token and token.isascii() and token.isprintable() and not set(token) & set("*> $") for token in tokens):
        raise ValueError(f"must be dot-separated tokens without blanks, $ and wildcards, not {shown(value)}")
    for taken in _TAKEN:
        if f"{value}.".startswith(f"{taken}."):
            raise ValueError(f"must not be under {taken}, which is not for requests: something else answers there")
    return value


def _no_catchall(value: str) -> str:
    if value == CATCHALL:
        raise ValueError("catchall is no type of a task's own")
    return value


def _listen(value: str) -> str:
    if value == "off":
        return value
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or not port.isdecimal() or not port.isascii():
        raise ValueError(f'must be "host:port" or "off", not {shown(value)}')
    if int(port) > 65535:  # noqa: PLR2004 - the highest port there is
        raise ValueError(f"the port must be 0 to 65535, not {port}")
    return value


Duration = Annotated[int, BeforeValidator(_duration)]
"""Integer nanoseconds; written like Go's durations, or in days."""


def is_duration(field: FieldInfo) -> bool:
    """Whether a key (or the elements of its list) is a duration."""
    wanted = Duration.__metadata__[0]  # type: ignore[attr-defined]  # what Annotated keeps
    kinds = get_args(field.annotation)
    return wanted in field.metadata or any(wanted in getattr(kind, "__metadata__", ()) for kind in kinds)


Limit = Annotated[int, AfterValidator(_limit)]
Count = Annotated[int, AfterValidator(_count)]
QueueName = Annotated[str, _named("a queue's name", "[A-Za-z0-9_-]{1,128}", is_queue)]
BridgeName = Annotated[
    str, _named("a bridge's name", "[A-Za-z0-9_-]{1,128}", lambda name: name == "" or is_queue(name))
]
PolicyName = Annotated[str, _named("a policy's name", "[A-Za-z0-9_:-]{1,128}", is_id)]
TaskType = Annotated[str, _named("a task type", "[A-Za-z0-9_:-]{1,128}", is_type), AfterValidator(_no_catchall)]
SubjectPrefix = Annotated[str, AfterValidator(_subject_prefix)]
Listen = Annotated[str, AfterValidator(_listen)]
