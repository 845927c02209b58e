"""One tree, drawn in its docstring; each error says what it is about and survives pickling."""

from __future__ import annotations

import pickle
import re
from datetime import timedelta

import pytest

from ajc import errors
from ajc.errors import AjcError
from ajc.task import Task

TASK = Task(id="a", type="t", state="expired", tries=3, last_err="smtp down")
EXAMPLES = [
    errors.InvalidName("queue", "a b", "1 to 128 of a-z"),
    errors.InvalidValue("max_tries", -1, "is 0 or more"),
    errors.TooLarge("task", 10, 5),
    errors.NotFound("task", "a", code=10037),
    errors.AlreadyExists("task", "a"),
    errors.Conflict("task a", code=10071, task=TASK),
    errors.QueueFull("EMAIL"),
    errors.SignatureError("a", "is not signed"),
    errors.StoreError(10052, "bad configuration", subject="STREAM.CREATE.X"),
    errors.Unavailable("the send buffer is full"),
    errors.Closed(),
    errors.RequestTimeout("ajc.exec.t", 5),
    errors.NoResponders("$JS.API.INFO"),
    errors.NotPermitted("CHORIA_AJ.Q.X.a"),
    errors.MalformedTask("tries", "is no integer"),
    errors.MalformedItem("", "nested too deep"),
    errors.MalformedEvent("timestamp", "is none"),
    errors.UnknownEvent("type", "is unknown"),
    errors.MalformedRequest("body", "is none"),
    errors.MalformedHeaders("", "is none"),
    errors.MalformedInstant("", "is none"),
    errors.MalformedDuration("", "is none"),
    errors.TaskFailed(TASK),
    errors.TaskTimeout("a", 30),
    errors.Terminate("no address"),
    errors.Retry("later", after=timedelta(minutes=5)),
    errors.Busy(),
]


def classes(kind: type[AjcError] = AjcError) -> list[type[AjcError]]:
    """Every error, in the order of the source, children below their parent."""
    found = [kind]
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            found += classes(child)
    return found


def test_the_docstring_draws_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn: list[tuple[str, str]] = []
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.fullmatch(r"    ([ │├└─]*)([A-Z]\w+)(?: .*)?", line)
        if match is None:
            continue
        depth = (len(match[1]) + 3) // 4
        del above[depth:]
        drawn.append((match[2], above[-1] if above else "Exception"))
        above.append(match[2])
    assert sorted(drawn) == sorted((kind.__name__, kind.__mro__[1].__name__) for kind in classes())


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_fields_and_text_survive_pickling(error: AjcError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert {key: value for key, value in vars(again).items() if key != "__notes__"} == vars(error)


def test_every_error_has_an_example() -> None:
    abstract = {"AjcError", "Malformed", "HandlerSignal"}
    assert {type(error).__name__ for error in EXAMPLES} == {kind.__name__ for kind in classes()} - abstract


def test_texts_say_what_to_do() -> None:
    assert (
        str(errors.InvalidName("queue", "a b", "1 to 128 of a-z"))
        == "queue 'a b' is not a legal name: use 1 to 128 of a-z"
    )
    assert str(errors.NotFound("task", "a")) == "task a does not exist"
    assert str(errors.MalformedTask("tries", "is none")) == "malformed task: tries: is none"
    assert str(errors.StoreError(10052, "bad")) == "bad (10052)"
    assert str(errors.TaskFailed(TASK)) == "task a is expired after 3 tries: smtp down"
    assert "load it again" in str(errors.Conflict("task a"))
    assert "is JetStream enabled there?" in str(errors.NoResponders("$JS.API.INFO"))
    assert "is the service running?" in str(errors.NoResponders("x"))


def test_a_refused_value_is_shown_in_part_only() -> None:
    assert len(str(errors.InvalidValue("payload", "x" * 10_000, "is too long"))) < 200
    assert "<int>" in str(errors.InvalidValue("payload", 10**5000, "is too long"))


@pytest.mark.parametrize(
    ("after", "milliseconds"), [(None, None), (timedelta(minutes=5), 300_000), (1.5, 1_500), (0, 0), (0.0004, 0)]
)
def test_after_is_a_timedelta_or_seconds(after: timedelta | float | None, milliseconds: int | None) -> None:
    assert errors.Retry("later", after=after).after_ms == milliseconds
    assert errors.Busy(after=after).after_ms == milliseconds


@pytest.mark.parametrize("after", [-1, timedelta(seconds=-1), float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(after: timedelta | float) -> None:
    with pytest.raises(errors.InvalidValue):
        errors.Retry("later", after=after)
