"""Runs the conformance kit on examples, each at the level that it says it has."""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import Any, Final, NamedTuple

import msgspec

from polyglot.examples import Example
from polyglot.processes import Processes

_KIT_SECONDS: Final = 180
_AT_ONCE: Final = 2
"""Most rules wait; more at once would make the clocks' rules a matter of luck."""


class Examined(NamedTuple):
    """What the kit says of one: rules passed, and what differs ("" for nothing)."""

    example: Example
    passed: int
    problem: str


async def examine(examples: list[Example], processes: Processes) -> list[Examined]:
    """Examine all, in their order."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(example: Example) -> Examined:
        async with places:
            return await _examine(example, processes)

    return await asyncio.gather(*map(one, examples))


async def _examine(example: Example, processes: Processes) -> Examined:
    name = f"{example.name}-kit"
    start = shlex.join(["sh", "-c", example.settings.start])
    level = ["--level", example.settings.level, "--start", start, "--json"]
    command = [sys.executable, "-m", "ajc_bridge", "conform", example.name, *level]
    code = await processes.run(name, command, example.folder, _KIT_SECONDS, AJC_FAMILY=example.name)
    output = processes.log(name).read_text(errors="replace")
    try:
        report: dict[str, Any] = msgspec.json.decode(output[output.index("{") :])
    except (ValueError, msgspec.DecodeError):
        return Examined(example, 0, f"the kit ended with {code}:\n{processes.last_words(name)}")
    passed = sum(rule["outcome"] == "passed" for rule in report["rules"])
    failed = [_told(rule) for rule in report["rules"] if rule["outcome"] == "failed"]
    if not failed and (code or report["highest_level"] != example.settings.level):
        failed = [f"  the kit ended with {code}, highest level {report['highest_level']}"]
    return Examined(example, passed, "\n".join(failed))


def _told(rule: dict[str, Any]) -> str:
    said = [f"  {rule['rule']} {rule['title']}"]
    return "\n".join(said + [f"    {name}: {rule[name]}" for name in ("sent", "expected", "seen") if name in rule])
