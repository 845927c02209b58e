"""Makes this folder importable as `chaos`, for the tests as for `python tests/chaos/driver.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
