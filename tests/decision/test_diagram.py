"""docs/lifecycle.md is what the table says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ajc_bridge.decision.diagram import document, edges, mermaid
from ajc_bridge.decision.lifecycle import LEGAL, Step

DOCS = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_the_page_in_docs_is_the_generated_one() -> None:
    if not DOCS.exists():
        pytest.skip("this tree has no docs")
    assert DOCS.read_text() == document(), "run: python -m ajc_bridge.decision.diagram > docs/lifecycle.md"


def test_the_command_writes_it() -> None:
    command = [sys.executable, "-m", "ajc_bridge.decision.diagram"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == document()


def test_every_row_of_the_table_is_an_edge() -> None:
    drawn = {(step, a, b) for (a, b), steps in edges().items() for step in steps}
    table = {(step, a, b) for step, rows in LEGAL.items() for a, afters in rows.items() for b in afters}
    assert drawn == table
    for step in Step:
        assert f"| {step} | " in document()


def test_the_diagram_names_the_empty_state() -> None:
    assert "unknown --> active: run" in mermaid()
    assert "active --> terminated: terminate, cancel" in mermaid()
    assert "[*] --> new: create" in mermaid()
