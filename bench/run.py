"""`make bench`: the bridge beside its floor, on a real server, and each promise with its verdict.

    python bench/run.py [--quick] [--long] [--rounds N] [--tasks N] [--json] [--only throughput,idle,enqueue,responder]

The contenders take turns (floor, bridge, bridge on twenty queues, floor, ...), because a shared machine changes its
mind from second to second; a figure is the median of the rounds' ratios. Exit code 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import enqueue_ratio
import idle
import measure
import responder_ratio
import uvloop
from measure import Bench, Run
from report import Row, table


async def throughput(bench: Bench, rounds: int, tasks: int, seen: dict[str, list[Run]]) -> list[Row]:
    for number in range(rounds):
        for name, start, queues in (
            ("floor", bench.start_floor, 1),
            ("bridge", bench.start_bridge, 1),
            ("asyncio", bench.start_coroutine_floor, 1),
            ("bridge20", bench.start_bridge, 20),
        ):
            run = await bench.run(start, tasks, queues)
            seen.setdefault(name, []).append(run)
            say(f"round {number + 1} {name:9} {run.rate:8.0f} tasks/s  {run.cpu_us:6.1f} us CPU/task  "
                f"server {run.server_cpu / run.tasks * 1e6:5.1f} us  peak {run.peak_mb:5.1f} MB")  # fmt: skip
    floor, bridge, twenty = seen["floor"], seen["bridge"], seen["bridge20"]
    ratio = statistics.median(b.rate / f.rate for b, f in zip(bridge, floor, strict=True))
    spread = statistics.median(t.rate / b.rate for t, b in zip(twenty, bridge, strict=True))
    natural = statistics.median(b.rate / c.rate for b, c in zip(bridge, seen["asyncio"], strict=True))
    rates = f"{median_rate(bridge):.0f}/s of the floor's {median_rate(floor):.0f}/s; the aim is 0.75"
    rates += f"; {natural:.2f} of the floor with a coroutine a task ({median_rate(seen['asyncio']):.0f}/s)"
    return [
        Row.at_least("tasks/s, of the floor", 0.6, ratio, "", rates),
        Row.at_most("CPU a task, bridge", 180, statistics.median(run.cpu_us for run in bridge), "us"),
        Row.at_most(f"peak memory, {tasks} tasks", 120, max(run.peak_mb for run in bridge), "MB"),
        Row.at_least("twenty queues, of one", 0.9, spread, "", f"{median_rate(twenty):.0f}/s"),
    ]


def median_rate(runs: list[Run]) -> float:
    return statistics.median(run.rate for run in runs)


async def long_run(bench: Bench, tasks: int, before: list[Run]) -> list[Row]:
    run = await bench.run(bench.start_bridge, tasks, seconds=600)
    say(f"long run of {tasks}: {run.rate:.0f} tasks/s, peak {run.peak_mb:.1f} MB")
    rows = [Row.at_most(f"peak memory, {tasks} tasks", 120, run.peak_mb, "MB")]
    if before:
        growth = run.peak_mb / max(one.peak_mb for one in before)
        rows.append(Row.at_most("the same, of the short run's", 1.1, growth))
    return rows


async def idle_rows(bench: Bench, samples: int) -> list[Row]:
    took = await idle.dispatch_times(bench, samples)
    p50, p99 = idle.percentile(took, 0.5), idle.percentile(took, 0.99)
    say(f"idle dispatch: {samples} samples, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return [
        Row.at_most("dispatch when idle, p50", 5, p50, "ms"),
        Row.at_most("dispatch when idle, p99", 20, p99, "ms"),
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the bridge beside its floor")
    parser.add_argument(
        "--quick", action="store_true", help="one round of 4,000 tasks: a smoke test, no verdict to quote"
    )
    parser.add_argument("--long", action="store_true", help="also 200,000 tasks, for the memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--only", default="throughput,idle,enqueue,responder")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.tasks, chosen.samples = 1, 4_000, 50
    return chosen


async def main() -> int:
    chosen = arguments()
    parts = set(chosen.only.split(","))
    folder = Path(tempfile.mkdtemp(prefix="ajc-bench-"))
    rows: list[Row] = []
    seen: dict[str, list[Run]] = {}
    bench = await measure.open_bench(folder)
    failed = True
    try:
        if "throughput" in parts:
            rows += await throughput(bench, chosen.rounds, chosen.tasks, seen)
        if chosen.long:
            rows += await long_run(bench, 200_000, seen.get("bridge", []))
        if "idle" in parts:
            rows += await idle_rows(bench, chosen.samples)
        if "enqueue" in parts:
            rows += await enqueue_ratio.rows(bench, chosen.rounds, chosen.tasks, say)
        if "responder" in parts:
            rows += await responder_ratio.rows(bench, 4 * chosen.rounds + 1, chosen.tasks // 2, say)
        failed = False
    finally:
        bench.stop_all()
        if failed:
            say((folder / "contenders.log").read_text(errors="replace")[-4000:])
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.json:
        runs = {
            name: [{**run._asdict(), "rate": run.rate, "cpu_us": run.cpu_us} for run in runs]
            for name, runs in seen.items()
        }
        document: dict[str, Any] = {"rows": [row.as_json() for row in rows], "runs": runs, "cores": os.cpu_count()}
        print(json.dumps(document))
    else:
        print(table(rows))
    return 1 if any(row.kept is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
