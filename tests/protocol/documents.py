"""What docs/protocol holds for programs: schemas and golden vectors."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DOCS = Path(__file__).parent.parent.parent / "docs"


def schema(name: str) -> Draft202012Validator:
    """A schema of docs/protocol, checked to be one."""
    document = json.loads((DOCS / "protocol" / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file of golden vectors."""
    found: list[dict[str, Any]] = json.loads((DOCS / "protocol" / "vectors" / f"{name}.json").read_text())["cases"]
    return found


def data(text: str | None) -> bytes | None:
    """The bytes that stand in a vector; None for absent."""
    return None if text is None else base64.b64decode(text, validate=True)
