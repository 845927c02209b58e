"""The end of each module that makes a page of docs/: `python -m MODULE [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path


def write_document(text: str) -> None:
    """Write the page to the file that the command line names, else to stdout."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
