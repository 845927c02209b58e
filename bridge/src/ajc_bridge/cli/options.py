"""Options that many commands share, so that they read alike everywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from ajc.instant import Instant

Server = Annotated[
    str | None,
    typer.Option(
        "--server", "-s", metavar="URL", help="NATS server, several with commas [default: $NATS_URL, or the context]"
    ),
]
Context = Annotated[
    str | None,
    typer.Option("--context", metavar="NAME", help="NATS context [default: $NATS_CONTEXT, or the selected one]"),
]


def _for_programs(wanted: bool) -> bool:
    from ajc_bridge.cli import exits  # noqa: PLC0415 - keeps --help quick

    exits.for_programs = exits.for_programs or wanted
    return wanted


Json = Annotated[
    bool, typer.Option("--json", help="JSON on stdout instead of a table, errors too", callback=_for_programs)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]

DEADLINES: Final = "write how long from now, like 1h or 30m, or a time by RFC 3339, like 2030-01-31T12:00:00Z"


def check_prefix(prefix: str) -> None:
    """Refuse a prefix of requests' subjects that a bridge could not have. Raises `InvalidValue`."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - keeps --help quick

    from ajc.errors import InvalidValue  # noqa: PLC0415
    from ajc_bridge.config.values import SubjectPrefix  # noqa: PLC0415

    try:
        TypeAdapter(SubjectPrefix).validate_python(prefix)
    except ValidationError as error:
        raise InvalidValue("--prefix", prefix, str(error.errors()[0]["ctx"]["error"])) from None


def duration(text: str, option: str = "duration") -> timedelta:
    """Parse a duration given on the command line (`30s`, `1h30m`, `7d`). Raises `InvalidValue`, naming the option."""
    from ajc.duration import parse_duration  # noqa: PLC0415 - keeps --help quick
    from ajc.errors import InvalidValue, MalformedDuration  # noqa: PLC0415

    try:
        return timedelta(microseconds=parse_duration(text) // 1000)
    except MalformedDuration as error:
        reason = f"has no unit: write it like {text}s" if text.isdecimal() else error.reason
        raise InvalidValue(option, text, reason) from None


def optional_duration(text: str | None, option: str = "duration") -> timedelta | None:
    """Parse a duration, or pass on that none was given."""
    return None if text is None else duration(text, option)


def optional_deadline(text: str | None) -> Instant | None:
    """Parse a deadline given on the command line: a duration from now, or RFC 3339. Raises `InvalidValue`."""
    from ajc.duration import parse_duration  # noqa: PLC0415 - keeps --help quick
    from ajc.errors import InvalidValue, MalformedDuration, MalformedInstant  # noqa: PLC0415
    from ajc.instant import Instant  # noqa: PLC0415

    if text is None:
        return None
    now = Instant.now()
    if "T" in text:
        try:
            ends = Instant.parse(text)
        except MalformedInstant as error:
            raise InvalidValue("--deadline", text, error.reason) from None
    else:
        try:
            ends = now.plus(parse_duration(text))
        except MalformedDuration:
            raise InvalidValue("--deadline", text, DEADLINES) from None
    if ends <= now:
        raise InvalidValue("--deadline", text, f"is not in the future: the task would expire untried; {DEADLINES}")
    return ends
