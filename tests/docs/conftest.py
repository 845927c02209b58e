"""Importable here: the root of the checkout, where `demo` lives, this folder, and the bridge as a process.

And a server with the documented permissions, for whoever tries them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
for folder in (ROOT, ROOT / "tests" / "daemon", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from doc_blocks import blocks  # noqa: E402

OPERATIONS = ROOT / "docs" / "operations.md"
ROLES = ("admin", "enqueuer", "canceller", "bridge", "responder")


@pytest.fixture
def feature_flags() -> str:
    """More of the server's configuration."""
    return ""


@pytest.fixture
def more_users() -> dict[str, str]:
    """Users beside the documented ones, and their permissions; "" for none."""
    return {}


@pytest.fixture
def roles(
    make_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    feature_flags: str,
    more_users: dict[str, str],
) -> str:
    """A server with the documented permissions, and a context for each role; returns the path of its log."""
    text = next(block.text for block in blocks(OPERATIONS) if block.file == "nats-server.conf")
    kept = [line for line in text.splitlines() if not line.startswith(("listen:", "jetstream"))]
    end = kept.index("  ]")
    for user, permissions in more_users.items():
        allowed = f", permissions: {{ {permissions} }}" if permissions else ""
        kept.insert(end, f"    {{ user: {user}, password: secret-{user}{allowed} }}")
    for role in ROLES:
        monkeypatch.setenv(f"{role.upper()}_PASSWORD", f"secret-{role}")
    server = make_server("\n".join([*kept, feature_flags]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    contexts = tmp_path / "nats" / "context"
    contexts.mkdir(parents=True)
    for role in (*ROLES, *more_users):
        found = {"url": server.url, "user": role, "password": f"secret-{role}", "inbox_prefix": f"_INBOX_{role}"}
        (contexts / f"{role}.json").write_text(json.dumps(found))
    return str(server.folder / "server.log")
