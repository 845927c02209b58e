"""Nothing in decision/ has a clock, a chance or a connection of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ajc_bridge.decision

FILES = sorted(Path(ajc_bridge.decision.__file__).parent.glob("*.py"))
BANNED = {"time", "random", "secrets", "uuid", "os", "asyncio", "anyio", "nats", "socket", "threading"}
ALLOWED_OF_AJC = {
    "duration",
    "errors",
    "exchange",
    "instant",
    "cancel_by_hand",
    "retry_by_hand",
    "subjects",
    "task",
    "work_item",
}


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_module_imports(file: Path) -> None:
    for name in imported(ast.parse(file.read_text())):
        head, _, rest = name.partition(".")
        assert head not in BANNED | {"datetime"}
        assert head != "ajc" or rest in ALLOWED_OF_AJC
        assert head != "ajc_bridge" or rest.startswith("decision.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_time_is_a_parameter(file: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Attribute) and call.attr in {"now", "today", "new"}]
