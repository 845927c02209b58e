"""The fake and the adapters are the ports by their types, and the fake's own values have the bridge's fields."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from ajc.testing.memory import MemoryLease, MemoryRecord, MemoryStranded
from ajc_bridge.decision.admission import Record
from ajc_bridge.ports import Lease, Stranded

HERE = Path(__file__).parent


def test_mypy_agrees() -> None:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(HERE / "types_of_ports.py")]
    done = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, check=False, timeout=180)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(("ours", "theirs"), [(MemoryRecord, Record), (MemoryLease, Lease), (MemoryStranded, Stranded)])
def test_the_fakes_own_values_have_the_fields_of_the_bridges(ours: type, theirs: type) -> None:
    def described(struct: type) -> list[tuple[str, object]]:
        return [(field.name, field.default) for field in structs.fields(struct)]

    assert described(ours) == described(theirs)
