"""What holds a checkout together: locks, import contracts, the image and the compose file, the polyglot examples."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_session import Session
from ruamel.yaml import YAML

from ajc_bridge.config import load_config

ROOT = Path(__file__).parent.parent.parent
POLYGLOT = ROOT / "examples" / "polyglot"


@pytest.mark.parametrize(
    "name",
    [
        "requirements/dev",
        "requirements/bridge",
        "examples/polyglot/python-nats/requirements",
        "examples/polyglot/python-sdk/requirements",
    ],
)
def test_locks_have_versions_and_hashes_and_no_places(name: str) -> None:
    text = (ROOT / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.findall(r"^([a-z0-9][^\s=]*)==\S+.*?(?=^[a-z0-9]|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    bodies = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(bodies) >= (20 if name.startswith("requirements") else 1)
    assert all("--hash=sha256:" in body for body in bodies)


def test_each_dependency_has_its_reason() -> None:
    for line in (ROOT / "requirements" / "dev.in").read_text().splitlines():
        assert not re.match(r"[a-z]", line) or re.search(r"#\s*\w+", line), line
    for project in ("sdk", "bridge"):
        text = (ROOT / project / "pyproject.toml").read_text()
        listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, flags=re.MULTILINE | re.DOTALL)
        assert listed is not None
        for line in listed.group(1).splitlines():
            assert re.search(r",\s+# \w+", line), line


def test_both_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        return dict(re.findall(r"^([a-z0-9][^\s=]*)==(\S+)", text, flags=re.MULTILINE))

    dev = pins("dev")
    assert {name: dev.get(name) for name in pins("bridge")} == pins("bridge")


PLANTED = {
    "bridge/src/ajc_bridge/decision/policy.py": "import time",
    "bridge/src/ajc_bridge/jetstream/delay.py": "import nats.errors",
    "bridge/src/ajc_bridge/pipeline/lane.py": "import ajc_bridge.jetstream.delay",
    "sdk/src/ajc/task.py": "import ajc_bridge",
}


def test_import_contracts_notice_what_they_forbid(tmp_path: Path) -> None:
    for name in ("sdk/src", "bridge/src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for name, line in PLANTED.items():
        file = tmp_path / name
        file.write_text(file.read_text() + f"\n{line}\n")
    (tmp_path / "bridge/src/ajc_bridge/unheard_of.py").write_text('"""A room that is in no layer."""\n')
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "sdk/src:bridge/src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    for contract in ("The layers", "The sdk never", "Only the connection's", "The pipeline sees", "The decisions read"):
        assert re.search(rf"^{contract}.* BROKEN", done.stdout, flags=re.MULTILINE), done.stdout
    assert "unheard_of" in done.stdout


def compose() -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())


def test_compose_mounts_what_there_is() -> None:
    services = compose()["services"]
    assert set(services) == {"nats", "bridge", "responder", "prometheus"}
    mounted = [volume for service in services.values() for volume in service.get("volumes", ())]
    files = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]
    assert len(files) == 3
    for file in files:
        assert (ROOT / file).is_file(), file
    config = load_config(ROOT / "examples/compose/ajc-bridge.toml", env={})
    assert config.bridge.drain / 1e9 < int(services["bridge"]["stop_grace_period"].removesuffix("s"))
    scraped = YAML(typ="safe").load((ROOT / "examples/compose/prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["static_configs"][0]["targets"] == ["bridge:8088"]


def test_image_runs_as_nobody_and_says_whether_it_is_ready() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER ajc$", text, flags=re.MULTILINE)
    assert re.search(r"HEALTHCHECK[^\n]*\\\n.*/readyz", text)
    assert "--require-hashes" in text
    for source in re.findall(r"^COPY (\S+) ", text, flags=re.MULTILINE):
        assert (ROOT / source).exists(), source
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for needed in ("requirements/bridge.txt", "sdk/src", "bridge/src", "sdk/README.md", "bridge/README.md"):
        assert f"!{needed}" in kept
        assert (ROOT / needed).exists()


@pytest.mark.slow
def test_polyglot_responders_start_by_one_command(tmp_path: Path) -> None:
    commands = {
        "python-sdk": "python -m ajc responder:app",
        "python-nats": "python responder.py",
        "shell": "ajc-bridge exec words:count -- ./count-words.sh",
    }
    session = Session(tmp_path)
    try:
        session.open_terminal("ajc-bridge dev --ephemeral")
        for folder, command in commands.items():
            session.open_terminal(command, POLYGLOT / folder, ready=False)
        asked = {
            "greet": ('{"name": "you"}', "hello you"),
            "numbers:sum": ("[1, 2, 39]", "42"),
            "words:count": ('"three short words"', "3"),
        }
        for type_, (payload, answer) in asked.items():
            said = session.run(f"ajc-bridge task add {type_} '{payload}' --wait 30s")
            assert re.search(rf"^result .*{answer}", said, flags=re.MULTILINE), said
    finally:
        session.close()


def test_plain_nats_responder_needs_no_code_of_this_project() -> None:
    for file in (POLYGLOT / "python-nats").glob("*.py"):
        assert not re.search(r"^\s*(import|from) ajc", file.read_text(), flags=re.MULTILINE), file


def test_a_python_that_is_named_and_is_none_is_told() -> None:
    done = subprocess.run(
        ["sh", "requirements/make-venv.sh"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": "/nowhere/python3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "setup: PYTHON=/nowhere/python3 is no Python 3.11 or newer\n")
