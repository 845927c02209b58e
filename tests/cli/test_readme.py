"""What the bridge's README says can be typed."""

from __future__ import annotations

import json
import re
import shlex
import signal
import tomllib
from pathlib import Path

import pytest
from command_line import CommandLine, told
from test_help import commands

from ajc_bridge.config import load_config

README = Path(__file__).parents[2] / "bridge" / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_its_commands_work_in_their_order(alone: CommandLine) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("ajc-bridge ")]
    typed = [shlex.split(line)[1:] for line in lines]
    assert [words[0] for words in typed] == ["dev", "exec", "task", "task", "run"]
    dev = alone.start(*typed[0], "--port", 0, "--listen", "off", "--json")
    assert dev.stdout is not None
    alone.env["NATS_URL"] = json.loads(dev.stdout.readline())["server"]
    told(alone.start(*typed[1]), "serving shout")
    assert '"HELLO"' in alone.ok(*typed[2]).out
    assert "complete" in alone.ok(*typed[3]).out
    dev.send_signal(signal.SIGTERM)
    assert dev.wait(20) == 0


@pytest.mark.parametrize("text", blocks("toml"))
def test_its_configuration_is_one(tmp_path, text) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    config = load_config(file, {}, {})
    assert set(tomllib.loads(text)["queues"]) == set(config.queues)


def test_its_table_names_every_command() -> None:
    rows = re.findall(r"^\| (`.*?) \|", README.read_text(), re.MULTILINE)
    named = set()
    for row in rows:
        first, *more = re.findall(r"`(.*?)`", row)
        group = first.split()[0]
        named |= {first} | {f"{group} {one}" for one in more}
    assert named == set(commands())
