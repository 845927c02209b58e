"""What the demonstration shows: a table that follows the events, and at the end expected against seen."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.scenes import SCENES, Ending, Scene

_LINE_SECONDS: Final = 2.0
_COLUMNS: Final = {"new": "waiting", "active": "running", "retry": "to try again"}


class Score:
    """The state of every task, by scene, as events tell it."""

    def __init__(self) -> None:
        self._scene_of: dict[str, int] = {}
        self._state: dict[str, str] = {}
        self.events = 0

    def enqueued(self, scene: int, task_id: str) -> None:
        """Remember whose task it is."""
        self._scene_of[task_id] = scene
        self._state.setdefault(task_id, "new")

    def changed(self, task_id: str, state: str) -> None:
        """Take an event; it may come before the enqueue's own answer."""
        self._state[task_id] = state
        self.events += 1

    def found(self, task_id: str, state: str) -> None:
        """Take what the store says."""
        self._state[task_id] = state

    def under_way(self) -> list[str]:
        """Return the ids of the tasks that have not ended, as far as events tell."""
        return [task_id for task_id in self._scene_of if self._state[task_id] in _COLUMNS]

    def counts(self, scene: int) -> Counter[str]:
        """Return how many tasks of a scene are in which state."""
        return Counter(self._state[task_id] for task_id, owner in self._scene_of.items() if owner == scene)

    def ended(self) -> int:
        """Return how many tasks have ended."""
        return len(self._scene_of) - len(self.under_way())

    def table(self, seconds: float) -> Table:
        """Draw it."""
        table = Table(
            title=f"{seconds:4.1f} s   {len(self._scene_of)} tasks, {self.events} changes of state", width=112
        )
        table.add_column("tasks that ...")
        table.add_column("answered by")
        for column in (*_COLUMNS.values(), "ended"):
            table.add_column(column, justify="right", no_wrap=column == "ended")
        for number, scene in enumerate(SCENES):
            counts = self.counts(number)
            under_way = [counts.pop(state, 0) for state in _COLUMNS]
            ended = sum(counts.values())
            bar = Text("█" * (10 * ended // scene.count), style="green")
            cells = [str(count) if count else "·" for count in under_way]
            table.add_row(scene.title, scene.by, *cells, bar + Text(f" {ended:3}/{scene.count}"))
        return table


class Screen:
    """Draws in place on a terminal; elsewhere a line every other second."""

    def __init__(self) -> None:
        self.console = Console(width=None if sys.stdout.isatty() else 112)
        self._live = Live(console=self.console, refresh_per_second=8) if self.console.is_terminal else None
        self._began = time.monotonic()
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Write a line above the table."""
        self.console.print(f"[dim]{self.seconds:5.1f} s[/]  {text}", highlight=False)

    def show(self, score: Score) -> None:
        """Show how things stand."""
        if self._live is not None:
            self._live.update(score.table(self.seconds))
        elif self.seconds >= self._next_line:
            self._next_line = self.seconds + _LINE_SECONDS
            self.say(f"{score.ended()} tasks have ended, {score.events} changes of state")


def verdict(scenes: list[tuple[Scene, Counter[Ending], int]]) -> tuple[Table, bool]:
    """Draw expected against seen; say whether they agree.

    Each row: a scene, how its tasks ended as the store has it, how many results are the right ones.
    """
    table = Table(title="expected and seen")
    table.add_column("tasks that ...", ratio=3)
    table.add_column("answered by", ratio=2)
    table.add_column("expected", ratio=4)
    table.add_column("seen", ratio=4)
    table.add_column("", justify="center", width=2)
    agreed = True
    for scene, endings, right_results in scenes:
        want = f"{scene.count} x {scene.ending}"
        seen = "\n".join(f"{count} x {ending}" for ending, count in sorted(endings.items()))
        wants_results = scene.ending.state == "complete"
        if wants_results and right_results != scene.count:
            seen += f"\n{scene.count - right_results} wrong results"
        good = endings == Counter({scene.ending: scene.count}) and (not wants_results or right_results == scene.count)
        agreed &= good
        table.add_row(
            scene.title, scene.by, want, seen, Text("ok", "green") if good else Text("no", "bold red"), style=None
        )
    return table, agreed
