"""Read the layers (file, environment, flags), lay later over earlier, and say everything that is wrong at once."""

from __future__ import annotations

import copy
import difflib
import itertools
import os
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ajc.errors import AjcError
from ajc_bridge.config.model import Config, Section
from ajc_bridge.config.values import is_duration, shown

PREFIX = "AJC_"
KNOWN_BESIDE = frozenset({"AJC_FAILPOINT", "AJC_FAST"})  # for tests: where to die, which client
SECRETS = frozenset({"password", "token"})
DEFAULT_FILE = "ajc-bridge.toml"


class ConfigError(AjcError):
    """The configuration is wrong; `lines` has one readable line a fault, each beginning with the key's path.

    A value that came from the environment has its variable beside the path.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class UnknownVariable(UserWarning):
    """An environment variable that looks like ours and is none."""


def load_config(
    path: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Config:
    """Read the configuration from `path` (TOML), `env` (`AJC_<SECTION>__<KEY>`) and `overrides` (dotted key: value).

    Without a path, `ajc-bridge.toml` in the working directory is read when it is there. A variable of ours that no key
    answers to is a warning (`UnknownVariable`). Raises `ConfigError` with every fault at once.
    """
    env = os.environ if env is None else env
    merged = _read_file(path)
    from_environment, variables = _from_environment(env)
    from_flags = _nested(overrides or {})
    _lay_over(merged, from_environment)
    _lay_over(merged, from_flags)
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        lines = _lines(error, {place: name for place, name in variables.items() if not _has(from_flags, place)})
        policies = merged.get("backoff")
        lines += _without(merged, error).faults(policies if isinstance(policies, dict) else ())
    else:
        lines = list(config.faults())
    if lines:
        raise ConfigError(lines)
    return config


def _without(merged: dict[str, Any], error: ValidationError) -> Config:
    """Return the configuration without what is wrong by itself, so that faults between the other keys are told too."""
    rest = copy.deepcopy(merged)
    for fault in error.errors(include_url=False):
        _cut(rest, fault["loc"])
    try:
        return Config.model_validate(rest)
    except ValidationError:  # what is told already is enough
        return Config()


def _cut(tree: dict[str, Any], location: tuple[int | str, ...]) -> None:
    """Remove the key at this place: a list as a whole, a table when it lacks the key."""
    path = list(itertools.takewhile(lambda step: isinstance(step, str) and step != "[key]", location))
    while path:
        table: Any = tree
        for step in path[:-1]:
            table = table.get(step) if isinstance(table, dict) else None
        if isinstance(table, dict) and path[-1] in table:
            del table[path[-1]]
            return
        path.pop()


def _read_file(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    file = Path(DEFAULT_FILE if path is None else path)
    if path is None and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: is not UTF-8 text"]) from None
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise ConfigError([f"{file}: is not TOML: {error}"]) from None


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield every key outside of named tables: ("nats", "tls", "ca") and its field."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, (*path, name))
        elif get_origin(kind) is not dict:
            yield (*path, name), field


def _from_environment(env: Mapping[str, str]) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """Collect the keys set by variables, and by which; text becomes what the key's type asks for, where it can."""
    known = {PREFIX + "__".join(path).upper(): (path, field) for path, field in leaves(Config)}
    found: dict[str, Any] = {}
    variables: dict[tuple[str, ...], str] = {}
    for variable, text in env.items():
        if not variable.startswith(PREFIX) or variable in KNOWN_BESIDE:
            continue
        if variable not in known:
            near = difflib.get_close_matches(variable, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            if variable.startswith((PREFIX + "QUEUES__", PREFIX + "BACKOFF__", PREFIX + "EXEC__ROUTES")):
                hint = "; queues, policies and routes come from the file"
            warnings.warn(f"{variable}: no such setting{hint}", UnknownVariable, stacklevel=3)
            continue
        path, field = known[variable]
        _put(found, path, _converted(text, field))
        variables[path] = variable
    return found, variables


def _converted(text: str, field: FieldInfo) -> Any:
    kind = field.annotation
    if get_origin(kind) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    kinds = {kind, *get_args(kind)}
    if bool in kinds and text.lower() in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
        return text.lower() in {"true", "1", "yes", "on"}
    if int in kinds and not is_duration(field) and text.removeprefix("-").isdecimal() and len(text) < 20:  # noqa: PLR2004 - a 64-bit number
        return int(text)
    return text


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"nats.url": …} as {"nats": {"url": …}}; nested mappings are taken as they are, None is a flag not given."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if isinstance(value, Mapping):
            _lay_over(nested, {key: dict(value)})
        elif value is not None:
            _put(nested, tuple(key.split(".")), value)
    return nested


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _has(tree: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Merge in place. A server named by a later layer takes the place of one named otherwise by an earlier one."""
    for name, value in above.items():
        under = below.get(name)
        if isinstance(value, Mapping) and isinstance(under, dict):
            if name == "nats" and ("url" in value or "context" in value):
                under.pop("url", None)
                under.pop("context", None)
            _lay_over(under, value)
        else:
            below[name] = value


def _lines(error: ValidationError, variables: Mapping[tuple[str, ...], str]) -> list[str]:
    """One line a fault, in the file's words rather than the library's; `variables` set these keys."""
    lines = []
    for fault in error.errors(include_url=False):
        place = tuple(step for step in fault["loc"] if isinstance(step, str))  # without a list's index
        by = f" (${variables[place]})" if place in variables else ""
        lines.append(f"{_path(fault['loc'])}{by}: {_said(fault)}")
    return list(dict.fromkeys(lines))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        if step == "[key]":
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{_quoted(step)}" if path else _quoted(step)
    return path or "configuration"


def _quoted(step: str) -> str:
    return step if step.replace("_", "").replace("-", "").isalnum() and step.isascii() else shown(step)


_WANTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def _said(fault: Any) -> str:
    kind, value = fault["type"], fault.get("input")
    if fault["loc"][-1] in SECRETS and kind in _WANTED:
        return _WANTED[kind]
    if kind == "extra_forbidden":
        return "unknown key" + _nearest(fault["loc"])
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(fault["ctx"]["error"])
    if kind == "too_short":
        return "must not be empty"
    if kind == "literal_error":
        return f"must be {fault['ctx']['expected']}, not {shown(value)}".replace("'", '"')
    if kind in _WANTED:
        return f"{_WANTED[kind]}, not {shown(value)}"
    return f"{fault['msg']}, not {shown(value)}"


def _nearest(location: tuple[int | str, ...]) -> str:
    """Name a key spelled nearly like the unknown one, if there is one at its place."""
    model: Any = Config
    for step in location[:-1]:
        kind = model.model_fields[step].annotation if hasattr(model, "model_fields") else None
        named = get_args(kind)[1] if get_origin(kind) is dict else kind
        if kind is not named:
            model = {"named": named}
        elif isinstance(model, dict):
            model = model["named"]
        else:
            model = kind
    names = list(getattr(model, "model_fields", {}))
    near = difflib.get_close_matches(str(location[-1]), names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}" if names else ""
