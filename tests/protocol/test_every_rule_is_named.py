"""Each numbered rule of docs/protocol.md is named by a test, and no test names a rule that is none.

A test names a rule by `@pytest.mark.rule("EXEC-n")`, in its docstring, in its parameters (a table of the module among
them), or by `exec_n` in its name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from documents import DOCS

from ajc_bridge.conform.rules import RULES as KIT

TESTS = Path(__file__).parent.parent
TEXT = (DOCS / "protocol.md").read_text()
LEVELS = ("L0", "L1", "L2", "L3")
_rule = re.compile(r"EXEC-(\d+)")


class Rule(NamedTuple):
    whose: frozenset[str]
    level: str  # "" where it is the bridge's alone


def rules() -> dict[int, Rule]:
    """The rules of the document, by their numbers."""
    found: dict[int, Rule] = {}
    for number, said in re.findall(r"^\*\*EXEC-(\d+)\*\* \(([^)]+)\)", TEXT, flags=re.MULTILINE):
        assert int(number) not in found, f"EXEC-{number} is there twice"
        levels = [level for level in LEVELS if level in said]
        assert len(levels) < 2, said
        found[int(number)] = Rule(frozenset(re.findall("responder|bridge", said)), levels[0] if levels else "")
    return found


RULES = rules()


def texts(node: ast.AST) -> set[int]:
    """The rules in the texts below this node; comments are none."""
    return {
        int(number)
        for child in ast.walk(node)
        if isinstance(child, ast.Constant) and isinstance(child.value, str)
        for number in _rule.findall(child.value)
    }


def named_in(source: str) -> Iterator[tuple[str, int]]:
    """(test, rule) for each rule that a test of this module names."""
    tree = ast.parse(source)
    tables = {
        target.id: texts(node)
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or not node.name.startswith("test_"):
            continue
        found = {int(number) for number in re.findall(r"exec_(\d+)", node.name)}
        found |= {int(number) for number in _rule.findall(ast.get_docstring(node) or "")}
        for decorator in node.decorator_list:
            found |= texts(decorator)
            for child in ast.walk(decorator):
                if isinstance(child, ast.Name):
                    found |= tables.get(child.id, set())
        yield from ((node.name, number) for number in found)


NAMED = {
    (str(file.relative_to(TESTS)), test, number)
    for file in sorted(TESTS.rglob("test_*.py"))
    for test, number in named_in(file.read_text())
}


def test_the_rules_are_numbered_without_a_gap() -> None:
    assert sorted(RULES) == list(range(1, 41))


def test_every_rule_is_named_by_a_test() -> None:
    named = {number for _, _, number in NAMED}
    assert [f"EXEC-{number}" for number in sorted(RULES.keys() - named)] == []


def test_no_test_names_a_rule_that_is_none() -> None:
    none = [(file, test) for file, test, number in sorted(NAMED) if number not in RULES]
    assert none == [("conform/test_command.py", "test_a_wrong_usage_ends_with_2")]  # which asks for one


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('@pytest.mark.rule("EXEC-1")\ndef test_a(): pass', {1}),
        ('@rule("EXEC-1")\n@rule("EXEC-2")\nasync def test_a(): pass', {1, 2}),
        ('def test_a():\n    """EXEC-3, EXEC-4: both."""', {3, 4}),
        ("def test_exec_5_is_kept(): pass", {5}),
        ('T = {"EXEC-6": 1}\n@pytest.mark.parametrize("x", sorted(T))\ndef test_a(): pass', {6}),
        ('class TestIt:\n    def test_a(self):\n        """EXEC-7."""', {7}),
        ('# EXEC-8\ndef test_a():\n    x = "EXEC-9"', set()),
        ('def helper():\n    """EXEC-10"""', set()),
        ('T = "EXEC-11"\ndef test_a(): pass', set()),
    ],
)
def test_how_a_rule_is_named(source: str, found: set[int]) -> None:
    assert {number for _, number in named_in(source)} == found


def test_the_table_of_levels_says_what_the_rules_say() -> None:
    listed: dict[str, set[int]] = {}
    for level, cell in re.findall(r"^\| (L[0-3]) \|.*\| (EXEC-[^|]+) \|$", TEXT, flags=re.MULTILINE):
        numbers: set[int] = set()
        for part in cell.removeprefix("EXEC-").split(","):
            first, _, last = part.strip().partition(" to ")
            numbers.update(range(int(first), int(last or first) + 1))
        listed[level] = numbers
    assert listed == {level: {n for n, rule in RULES.items() if rule.level == level} for level in LEVELS}
    assert {n for n, rule in RULES.items() if not rule.level} == {
        n for n, rule in RULES.items() if rule.whose == {"bridge"}
    } | {38}


def test_the_kit_asks_for_the_same_rules_at_the_same_levels() -> None:
    kit = {rule.number: rule.level or "" for rule in KIT}
    assert kit == {number: rule.level for number, rule in RULES.items() if number in kit}
    assert {number for number, rule in RULES.items() if rule.level} <= kit.keys()


def test_the_first_page_tells_of_the_same_types_as_the_reference() -> None:
    first, _, reference = TEXT.partition("## The reference")
    table = re.findall(r"^\| `(conform:\w+)` \| (L[0-3]) \|", reference, flags=re.MULTILINE)
    wanted = [name for name, level in table if level in ("L0", "L1")]
    assert re.findall(r"^\| `(conform:\w+)` \|", first, flags=re.MULTILINE) == wanted
    assert len(table) == 10
