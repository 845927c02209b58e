"""`python -m ajc_bridge.config.table [FILE]`: the table of all keys, docs/configuration.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ajc.duration import format_duration
from ajc_bridge.config.model import Config, Section
from ajc_bridge.config.values import is_duration
from ajc_bridge.document import write_document

HEAD = """# Configuration

<!-- made by `python -m ajc_bridge.config.table docs/configuration.md`; a test compares -->

`ajc-bridge run` reads `ajc-bridge.toml` (or `--config FILE`), then the environment, then flags: the later wins.
Durations read like Go's (`250ms`, `1h30m`) and also take days (`7d`). An unknown key, a wrong type or an impossible
value is one line on stderr with the key's path, and exit code 2:

    queues.EMAIL.priority: must be 1 to 100, not 500

The environment has a variable for every key outside of `queues`, `backoff` and `exec.routes`:
`AJC_<SECTION>__<KEY>`, so `AJC_NATS__URL=nats://nats:4222`, `AJC_NATS__TLS__CA=/etc/nats/ca.pem`,
`AJC_RETENTION__DISCARD=complete,expired`. A variable that begins with `AJC_` and names no key is a warning; a
value that cannot be used is told with its variable:

    bridge.concurrency ($AJC_BRIDGE__CONCURRENCY): must be a whole number, not "many"

Keys marked *live* take effect on SIGHUP, which reads the file again; for the others, and for
a queue that the file has from now on or no longer, the bridge says that it must be restarted (`config.restart_needed`).
A file that is wrong changes nothing. Where only the server can tell that a setting of a queue is refused,
the queues that were changed before that one stay so at the server; the log has both.
"""


def document() -> str:
    """Return the whole page."""
    return "\n".join([HEAD.strip(), *_sections(Config, "")]) + "\n"


def _sections(model: type[Section], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner, named = _section_of(field)
        if inner is None:
            continue
        title = f"{path}{name}{'.<name>' if named else ''}"
        yield f"\n## `[{title}]`\n\n{str(inner.__doc__).strip()}\n"
        yield "| Key | Type | Default | | Meaning |\n| --- | --- | --- | --- | --- |"
        for key, key_field in inner.model_fields.items():
            if _section_of(key_field)[0] is None:
                yield _row(f"{title}.{key}", key_field)
        yield from _sections(inner, f"{title}.")


def _section_of(field: FieldInfo) -> tuple[type[Section] | None, bool]:
    kind = field.annotation
    named = get_origin(kind) is dict
    inner = get_args(kind)[1] if named else kind
    return (inner, named) if isinstance(inner, type) and issubclass(inner, Section) else (None, False)


def _row(path: str, field: FieldInfo) -> str:
    extra: Any = field.json_schema_extra
    example = f", such as `{extra['example']}`" if extra["example"] else ""
    live = "live" if extra["reload"] else ""
    return f"| `{path}` | {_kind(field)} | {_default(field)} | {live} | {field.description}{example} |"


def _kind(field: FieldInfo) -> str:
    if get_origin(field.annotation) is dict:
        return "table of prefixes, by type"
    if get_origin(field.annotation) is not list and is_duration(field):
        return "duration"
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if get_origin(field.annotation) is list:
        return f"list of {'durations' if is_duration(field) else 'states'}"
    words = {str: "text", int: "number", float: "number", bool: "true or false"}
    return ", ".join(sorted({_word(kind, words) for kind in kinds}))


def _word(kind: Any, words: dict[Any, str]) -> str:
    if isinstance(kind, str):
        return f"`{kind}`"
    if kind in words:
        return words[kind]
    inner = get_args(kind)
    return ", ".join(_word(one, words) for one in inner if isinstance(one, str) or one in words)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "none" if field.default_factory is not None else "must be set"
    if field.default is None or field.default == "":
        return "not set"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, str):
        return f'`"{field.default}"`'
    return f'`"{format_duration(field.default)}"`' if is_duration(field) else f"`{field.default}`"


if __name__ == "__main__":
    write_document(document())
