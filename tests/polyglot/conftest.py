"""Makes this folder importable as `polyglot`, for the tests as for `python tests/polyglot/driver.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
