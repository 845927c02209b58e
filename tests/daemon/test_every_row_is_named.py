"""Each row of the specification has a test that carries its name, and no test carries the name of none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from rows import ROWS

FOLDER = Path(__file__).parent


def names_in(file: Path) -> Iterator[tuple[str, str]]:
    """(test, row) for each `@row(...)` or `@pytest.mark.row(...)` of a test; constants of the module count."""
    tree = ast.parse(file.read_text())
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or not node.name.startswith("test_"):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in {"row", "pytest.mark.row"}:
                [name] = decorator.args
                yield node.name, constants[name.id] if isinstance(name, ast.Name) else ast.literal_eval(name)


NAMED = [found for file in sorted(FOLDER.glob("test_*.py")) for found in names_in(file)]


def test_every_row_is_named_by_a_test() -> None:
    named = {name for _, name in NAMED}
    assert [name for name in ROWS if name not in named] == []


def test_no_test_names_a_row_that_is_none() -> None:
    assert [(test, name) for test, name in NAMED if name not in ROWS] == []


def test_no_row_is_there_twice() -> None:
    assert len(set(ROWS)) == len(ROWS)
