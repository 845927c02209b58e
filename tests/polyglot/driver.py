"""`make polyglot`: build the examples, run the conformance kit on each, then send tasks to all of them at once.

    python tests/polyglot/driver.py                            all that can be built here
    python tests/polyglot/driver.py --only go --only rust      these
    AJC_REQUIRE_ALL=1 python tests/polyglot/driver.py          all, or fail

Exit code 1 when an example cannot be built, breaks a rule of its level, or a task did not end complete with the result
that it must have; then the folder with all logs is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from polyglot.building import Built, build
from polyglot.conformity import Examined, examine
from polyglot.examples import POLYGLOT, Example, find
from polyglot.load import Load, Share
from polyglot.processes import Processes

CONSOLE = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
SHOWN = 10
"""Problems of one example printed in full."""


class Run:
    """One run over some examples, in a folder of its own."""

    def __init__(self, folder: Path, *, all_required: bool) -> None:
        self.processes = Processes(folder)
        self.all_required = all_required
        self.good = True

    async def perform(self, examples: list[Example], tasks: int) -> None:
        """Build, examine, load; a signal cancels it, and all are ended as well."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _current().cancel)
        try:
            ready = await self._build(examples)
            if self._check(bool(ready), "there is no example to run", []):
                await self._examine_and_load(ready, tasks)
        finally:
            await self.processes.kill_all()
            left = await self.processes.left()
            self._check(not left, "processes were left behind", left)

    async def _build(self, examples: list[Example]) -> list[Example]:
        ready = []
        for example in examples:
            built: Built = await build(example, self.processes, install=self.all_required)
            problem = built.problem or built.lacks
            if built.lacks and not self.all_required:
                _say(f"{example.name}: left out, {built.lacks}")
            elif self._check(not problem, f"{example.name} cannot be built", [problem]):
                _say(f"{example.name}: built in {built.seconds:.0f} s")
                ready.append(example)
        return ready

    async def _examine_and_load(self, ready: list[Example], tasks: int) -> None:
        _say(f"the conformance kit on {len(ready)} examples …")
        examined = await examine(ready, self.processes)
        for one in examined:
            self._check(not one.problem, f"{one.example.name} is not {one.example.settings.level}", [one.problem])
        load = Load(ready, tasks, self.processes)
        _say(f"{tasks} tasks for: " + ", ".join(f"{one.example.name} {len(one.results)}" for one in load.shares) + " …")
        await load.run()
        self._check(not load.problems, "the load", load.problems)
        for share in load.shares:
            self._check(not share.problems, share.example.name, share.problems)
        CONSOLE.print(table(examined, load.shares))

    def _check(self, good: bool, title: str, problems: Iterable[str]) -> bool:
        if not good:
            self.good = False
            told = list(problems)
            _say(f"WRONG: {title}: {len(told)}")
            for problem in told[:SHOWN]:
                _say(problem)
        return good


def table(examined: list[Examined], shares: list[Share]) -> Table:
    """Show what was measured."""
    shown = Table("language", "level", title_justify="left")
    for heading in ("rules passed", "tasks", "tried again", "tasks/s", "p99"):
        shown.add_column(heading, justify="right")
    for kit, share in zip(examined, shares, strict=True):
        settings, tasks = share.example.settings, f"{len(share.done)}"
        figures = (f"{share.retried}", f"{share.rate:.0f}", f"{share.p99 * 1000:.0f} ms")
        shown.add_row(settings.language, settings.level, f"{kit.passed}", tasks, *figures)
    done = sum(len(share.done) for share in shares)
    seconds = max((max(share.done.values(), default=0.0) for share in shares), default=0.0)
    shown.caption = f"{done} tasks in {seconds:.0f} s; tasks/s: all at once; p99: dispatch to complete, slow ones aside"
    return shown


def _current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, soft_wrap=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="build, examine and load the examples in many languages")
    parser.add_argument("--only", action="append", default=[], metavar="FOLDER", help="this example; may be repeated")
    parser.add_argument("--tasks", type=int, default=10_000, help="for all examples together")
    parser.add_argument("--folder", type=Path, default=POLYGLOT, help="where the examples are")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    examples = [one for one in find(chosen.folder) if not chosen.only or one.name in chosen.only]
    if not examples or len(examples) < len(set(chosen.only)):
        _say(f"no such example; there are {', '.join(one.name for one in find(chosen.folder))}")
        return 2
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="ajc-polyglot-"))
    run = Run(folder, all_required=os.environ.get("AJC_REQUIRE_ALL") == "1")
    try:
        asyncio.run(run.perform(examples, chosen.tasks))
    except asyncio.CancelledError:
        _say("interrupted; no process is left")
        return 130
    seconds = time.monotonic() - began
    if run.good:
        shutil.rmtree(folder)
        _say(f"everything is as it must be, in {seconds:.0f} s; no process is left")
        return 0
    _say(f"not everything is as it must be, in {seconds:.0f} s; logs are in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
