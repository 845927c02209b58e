"""Builds examples, and says which cannot be built here."""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple

from polyglot.examples import Example, lacking
from polyglot.processes import Processes

_BUILD_SECONDS: Final = 900
_INSTALL_SECONDS: Final = 300


class Built(NamedTuple):
    """What came of one: what this machine lacks for it, and what went wrong; both "" when it is ready to start."""

    example: Example
    lacks: str = ""
    problem: str = ""
    seconds: float = 0.0


async def build(example: Example, processes: Processes, *, install: bool) -> Built:
    """Build one; first bring what is missing where the example says how, if that is wanted and allowed."""
    began = time.monotonic()
    wanted = lacking(example, processes.path)
    if wanted and install and example.settings.install and os.geteuid() == 0:
        name = f"{example.name}-install"
        await processes.run(name, ["sh", "-c", example.settings.install], example.folder, _INSTALL_SECONDS)
        wanted = lacking(example, processes.path)
    if wanted:
        hint = f" (try: {example.settings.install})" if example.settings.install else ""
        return Built(example, lacks=wanted + hint)
    if example.settings.build:
        name = f"{example.name}-build"
        code = await processes.run(name, ["sh", "-c", example.settings.build], example.folder, _BUILD_SECONDS)
        if code:
            said = processes.last_words(name)
            return Built(example, problem=f"`{example.settings.build}` ended with {code}:\n{said}")
    return Built(example, seconds=time.monotonic() - began)
