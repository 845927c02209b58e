"""What changed between two configurations, and which of it a running process cannot take up."""

from __future__ import annotations

from typing import Any

from ajc_bridge.config.model import Config, Section


def changed_keys(old: Config, new: Config) -> list[str]:
    """List the paths of all keys that differ, in the order of the table."""
    return [path for path, _ in _differences(old, new, "")]


def restart_needed(old: Config, new: Config) -> list[str]:
    """List the paths of the keys that differ and cannot change while running; that a queue comes or goes is one."""
    return [path for path, reload in _differences(old, new, "") if not reload]


def _differences(old: Section, new: Section, path: str) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for name, field in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        extra: Any = field.json_schema_extra
        reload = bool(extra["reload"])
        found += _of_values(before, after, f"{path}{name}", reload=reload)
    return found


def _of_values(before: Any, after: Any, path: str, *, reload: bool) -> list[tuple[str, bool]]:
    if isinstance(before, Section) and isinstance(after, Section):
        return _differences(before, after, f"{path}.")
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[tuple[str, bool]] = []
        for name in [*before, *(name for name in after if name not in before)]:
            if name in before and name in after:
                found += _of_values(before[name], after[name], f"{path}.{name}", reload=reload)
            else:
                found.append((f"{path}.{name}", path == "backoff"))
        return found
    return [] if before == after else [(path, reload)]
