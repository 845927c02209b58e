"""The SDK's responder beside a bare one on the same connection, taking turns: replies a second.

python bench/responder_ratio.py [--rounds N] [--requests N]
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import measure
import uvloop
from measure import HERE, Bench, cpu_seconds
from report import Row, table

from ajc.exchange import ExecRequest
from ajc.instant import Instant
from ajc.task import Task

WHAT = "replies/s of the SDK's responder, of a bare one"
BOUND = 0.7
IN_FLIGHT = 200
PREFIX = "bench.answer"  # `bench/responder.py` answers everything on ajc.exec
PROGRAMS = {"bare": ["responder_bare.py"], "sdk": ["responder_sdk.py"], "waits": ["responder_sdk.py", "waits"]}


class Turn(NamedTuple):
    replies: int
    seconds: float
    cpu: float  # the responder's own, seconds

    @property
    def rate(self) -> float:
        return self.replies / self.seconds

    def __str__(self) -> str:
        return f"{self.rate:.0f} replies/s at {self.cpu / self.replies * 1e6:.1f} us CPU"


async def rows(bench: Bench, rounds: int, requests: int, say: Callable[[str], None]) -> list[Row]:
    """One row; each round asks all responders, which run all the time."""
    running: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
    try:
        for name, (program, *more) in PROGRAMS.items():
            kind = f"bench-{name}-{secrets.token_hex(4)}"
            running[name] = kind, bench.start(str(HERE / program), bench.server.url, kind, *more)
        ratios: dict[str, list[float]] = {"sdk": [], "waits": []}
        for number in range(-1, rounds):
            turns = {name: await turn(bench, *place, requests) for name, place in running.items()}
            if number < 0:
                continue  # a warm-up
            for name, found in ratios.items():
                found.append(turns[name].rate / turns["bare"].rate)
            told = ", ".join(f"{name} {one}" for name, one in turns.items())
            say(f"round {number + 1} responder {told}: {ratios['sdk'][-1]:.2f}, {ratios['waits'][-1]:.2f}")
    finally:
        for _, process in running.values():
            bench.stop(process)
    waits = statistics.median(ratios["waits"])
    note = f"{waits:.2f} with a handler that waits once, which takes a task of its own"
    return [Row.at_least(WHAT, BOUND, statistics.median(ratios["sdk"]), "", note)]


async def turn(bench: Bench, kind: str, process: subprocess.Popen[bytes], requests: int) -> Turn:
    """Ask one responder so many times, with so many under way."""
    subject = f"{PREFIX}.{kind}".encode()
    headers, body = request_of(kind)
    await until_there(bench, subject, headers, body)
    left = requests

    async def asker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            answer_headers, answer = await bench.client.ask(subject, body, headers)
            if answer != b"ok":
                raise RuntimeError(f"{kind} answered {answer_headers!r} {answer!r}")

    spent, began = cpu_seconds(process.pid), time.monotonic()
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(asker())
    return Turn(requests, time.monotonic() - began, cpu_seconds(process.pid) - spent)


def request_of(kind: str) -> tuple[bytes, bytes]:
    """A request as the bridge writes it, with a payload of 200 bytes and beats that are asked for."""
    now = Instant.now()
    task = Task.create(kind, b"x" * 200, queue="BENCH").replace(state="active", tries=1, tried=now)
    request = ExecRequest(
        task_id=task.id,
        type=kind,
        queue="BENCH",
        try_number=1,
        max_tries=5,
        deadline=now.plus(540 * 10**9),
        timeout_ms=540_000,
        heartbeat_subject="ajc.beat.bench.0123456789abcdef",
        heartbeat_ms=180_000,
        body=task.encode(),
    )
    return request.headers(), request.body


async def until_there(bench: Bench, subject: bytes, headers: bytes, body: bytes) -> None:
    async with asyncio.timeout(20):
        while (await bench.client.ask(subject, body, headers))[1] != b"ok":  # noqa: ASYNC110  (it is another process)
            await asyncio.sleep(0.02)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def main() -> int:
    parser = argparse.ArgumentParser(description="the SDK's responder beside a bare one")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--requests", type=int, default=10_000)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ajc-bench-"))
    bench = await measure.open_bench(folder)
    try:
        found = await rows(bench, chosen.rounds, chosen.requests, say)
    finally:
        bench.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    print(table(found))
    return 0 if all(row.kept for row in found) else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
