"""The reference pages are what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("ajc_bridge.config.table", "configuration.md"),
        ("ajc_bridge.journal.metric_table", "metrics.md"),
        ("ajc_bridge.journal.log_table", "logs.md"),
        ("ajc_bridge.cli.exits", "errors.md"),
    ],
)
def test_a_reference_page_is_what_its_command_prints(module, page) -> None:
    made = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "docs" / page).read_text(), f"run: python -m {module} docs/{page}"
