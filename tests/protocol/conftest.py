"""Importable here: this folder, and the helpers of the SDK's tests."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
for folder in (FOLDER, FOLDER.parent / "sdk"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
