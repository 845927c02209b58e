"""`python -m demo`: a server, the bridge, four responders, a few hundred tasks; 0 when all ended as they must."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import ajc
from demo.processes import Cast, NotPlayedError, cast
from demo.scenes import QUEUES, SCENES, Ending, Scene
from demo.screen import Score, Screen, verdict

LIMIT_SECONDS: Final = 50.0
LATE_SECONDS: Final = 4.0
PATIENT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.1
_CALM_SECONDS: Final = 2.0


async def play(client: ajc.Client, players: Cast, screen: Screen) -> list[tuple[Scene, Counter[Ending], int]]:
    """Enqueue every scene's tasks, follow them to their ends, and return what the store says of them."""
    score = Score()
    ids: list[list[str]] = [[] for _ in SCENES]
    async with client.watch() as events:
        following = asyncio.create_task(_follow(events, score))
        try:
            for number, scene in enumerate(SCENES):
                async for task in client.enqueue_many(scene.tasks()):
                    ids[number].append(task.id)
                    score.enqueued(number, task.id)
            total = sum(map(len, ids))
            screen.say(f"[bold]{total} tasks[/] enqueued, in the queues {' and '.join(QUEUES)}")
            await _until_ended(client, players, screen, score)
        finally:
            following.cancel()
    return [(scene, *await _read(client, scene, ids[number])) for number, scene in enumerate(SCENES)]


async def _follow(events: ajc.Watch, score: Score) -> None:
    async for event in events:
        if isinstance(event, ajc.TaskStateChanged):
            score.changed(event.task_id, event.state)


async def _until_ended(client: ajc.Client, players: Cast, screen: Screen, score: Score) -> None:
    began = looked = screen.seconds
    seen = 0
    late = False
    while score.under_way() and screen.seconds < began + LIMIT_SECONDS:
        if not late and screen.seconds >= began + LATE_SECONDS:
            late = True
            screen.say("the responder that was missing comes: [bold]ajc-bridge exec label:print -- tr a-z A-Z[/]")
            players.start_late_responder()
        players.check()
        if score.events != seen:
            seen, looked = score.events, screen.seconds
        elif screen.seconds > looked + _CALM_SECONDS:  # events are not stored, so one may be missed: the store knows
            looked = screen.seconds
            for task_id in score.under_way():
                score.found(task_id, (await client.load(task_id)).state)
        screen.show(score)
        await asyncio.sleep(_LOOK_SECONDS)
    screen.show(score)


async def _read(client: ajc.Client, scene: Scene, ids: list[str]) -> tuple[Counter[Ending], int]:
    """Return how the tasks ended, and how many results are what they must be."""
    endings: Counter[Ending] = Counter()
    right = 0
    for number, task_id in enumerate(ids):
        task = await client.load(task_id)
        reason = await _letter(client, task_id, letter_due=bool(scene.ending.dead_letter))
        endings[Ending(str(task.state), task.tries, reason)] += 1
        right += task.result is not None and task.result.data == scene.result(number)
    return endings, right


async def _letter(client: ajc.Client, task_id: str, *, letter_due: bool) -> str:
    """Return the reason of the task's dead letter, "" when there is none. One that is due follows soon."""
    until = asyncio.get_running_loop().time() + (_CALM_SECONDS if letter_due else 0)
    while True:
        with suppress(ajc.NotFound):
            return (await client.dead_letter(task_id)).reason
        if asyncio.get_running_loop().time() >= until:
            return ""
        await asyncio.sleep(_LOOK_SECONDS)


async def perform(folder: Path, screen: Screen) -> bool:
    """Start everybody, play, end everybody, and show the verdict; a signal cancels it, and all are ended as well."""
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    with cast(folder) as players, screen:
        players.start_server()
        screen.say(f"nats-server on {players.url}")
        players.start_bridge()
        players.start_responders()
        await players.wait_until_ready()
        screen.say("the bridge, and three responders: SDK, shell script, plain nats-py")
        async with ajc.connect(players.url) as client:
            played = await play(client, players, screen)
        codes = players.stop(PATIENT_SECONDS)
    table, agreed = verdict(played)
    screen.console.print(table)
    drained = codes.get("ajc-bridge") == 0
    if not drained:
        screen.say(f"the bridge ended with {codes.get('ajc-bridge')}, not with 0:\n{players.last_words('ajc-bridge')}")
    words = "everything ended as it must" if agreed and drained else "[bold red]not everything ended as it must[/]"
    screen.say(f"{words}; the bridge drained, and no process is left")
    return agreed and drained


def main() -> int:
    """Run the demonstration; return 0 when what was seen is what was expected, 1 otherwise, 130 when interrupted."""
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="ajc-demo-") as folder:
        try:
            return 0 if asyncio.run(perform(Path(folder), screen)) else 1
        except asyncio.CancelledError:
            screen.say("interrupted; no process is left")
            return 130
        except (NotPlayedError, ajc.AjcError) as error:
            screen.say(f"[bold red]{error}[/]")
            return 1


if __name__ == "__main__":
    sys.exit(main())
