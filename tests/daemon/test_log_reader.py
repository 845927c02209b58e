"""A bridge whose stderr nobody reads: it works on, and says later how much it has left out."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import urllib.error
import urllib.request
from signal import SIGTERM
from typing import Any

import pytest
from bridge_process import COMMAND, until
from outside import world_of
from scripted_responder import done

from ajc.errors import AjcError

row = pytest.mark.row
CONFIG = '[queues.Q]\nlease = "2s"\nmax_run_time = "1m"\nmax_concurrent = -1\n[bridge]\ndrain = "10s"'


class Pipe:
    """The smallest pipe there is, read only when told to."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        self._text = b""

    def lines(self, seconds: float = 0.0) -> list[dict[str, Any]]:
        """All that was said, up to now or as it comes within so long a silence."""
        while select.select([self.reading], [], [], seconds)[0]:
            part = os.read(self.reading, 1 << 20)
            if not part:
                break
            self._text += part
        return [json.loads(line) for line in self._text.splitlines(keepends=True) if line.endswith(b"\n")]

    async def until(self, action: str) -> dict[str, Any]:
        """Read until this line has come; nothing is read behind it."""
        found: list[dict[str, Any]] = []

        def come() -> bool:
            found[:] = [line for line in self.lines() if line["action"] == action]
            return bool(found)

        await until(come, 20, lambda: f"no line {action}: {self._text[-2000:]!r}")
        return found[0]

    def full(self) -> bool:
        return not select.select([], [self.writing], [], 0)[1]

    def close(self) -> None:
        for end in (self.reading, self.writing):
            os.close(end)


@row("A reader of the log that does not keep up stops nothing; what is left out is counted and told")
async def test_a_log_that_nobody_reads_stops_nothing(own_server, make_bridge, kind):
    pipe = Pipe()
    bridge = make_bridge(own_server.url, CONFIG, start=False).start(output=pipe.writing)
    try:
        async with world_of(own_server.url) as world:
            await pipe.until("queue.bound")
            await world.serve(kind, [done()])
            slow = await world.serve(f"{kind}-slow", [done(after=6.0)])  # three leases
            task = await world.run(f"{kind}-slow", queue="Q")
            await world.asked(slow)
            tasks = [world.task(kind, queue="Q") for _ in range(4_000)]  # some lines of 150 bytes each
            await world.enqueue_all(tasks)
            for one in tasks:
                await world.settled(one, "complete")
            assert pipe.full()
            assert (await world.settled(task, "complete")).tries == 1
            assert len(slow.requests) == 1
            pipe.lines(1.0)
            last = await world.run(kind, queue="Q")
            await world.settled(last, "complete")
            bridge.signal(SIGTERM)
            assert await bridge.ended() == 0
            told = pipe.lines()  # the bridge says what it left out with its next line, whatever that is: an idle pull's
            (dropped,) = [line for line in told if line["action"] == "log.lines_dropped"]
            assert dropped["lines"] > 0
            assert told[-1]["action"] == "bridge.stopped"
            assert not [line for line in told if line["action"] == "lease.lost"]
    finally:
        pipe.close()


async def test_a_second_signal_ends_it_though_nobody_reads_its_log(own_server, make_bridge, kind):
    pipe = Pipe()
    bridge = make_bridge(own_server.url, CONFIG, start=False).start(output=pipe.writing)
    try:
        async with world_of(own_server.url) as world:
            url = (await pipe.until("http.listening"))["url"]
            await pipe.until("queue.bound")
            responder = await world.serve(kind, [None])
            await world.enqueue_all([world.task(kind, queue="Q") for _ in range(200)])
            await world.asked(responder, 200)
            assert pipe.full()
            bridge.signal(SIGTERM)
            await until(lambda: draining(url))
            bridge.signal(SIGTERM)
            assert await bridge.ended(5) == 1
    finally:
        pipe.close()


async def test_a_bridge_without_a_stderr_works(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, CONFIG, start=False)
    process = subprocess.Popen(["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, str(bridge.file)])
    try:
        async with world_of(own_server.url) as world:
            await world.until_async(lambda: there(world), "the queue is not made")
            await world.serve(kind, [done()])
            await world.settled(await world.run(kind, queue="Q"), "complete")
        process.terminate()
        await until(lambda: process.poll() is not None)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait(20)


async def there(world: Any) -> bool:
    try:
        await world.consumer("Q")
    except AjcError:
        return False
    return True


def draining(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
    except urllib.error.HTTPError as error:
        return "draining" in json.loads(error.read())["missing"]
    return False
