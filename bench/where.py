"""Where the bridge's time goes: one run of the bench with a sampler inside the daemon.

    python bench/where.py [--tasks N]

The daemon runs with a profiling timer (SIGPROF, every millisecond of its own CPU time); each sample notes the
function that runs and, once each, the rooms (modules) on the stack. Printed: own time by function and by module, time
with callees by module.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

import measure
import uvloop

HERE = Path(__file__).resolve().parent
INTERVAL = 0.001


def sampled_daemon(config: str, out: str) -> int:
    """Run the daemon in this process, sampling; the counts are written to `out` at the end."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()

    def sample(_number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        own[_where(frame) + f":{frame.f_code.co_qualname}"] += 1
        rooms: set[str] = set()
        at: FrameType | None = frame
        while at is not None:
            rooms.add(_where(at))
            at = at.f_back
        below.update(rooms)

    from ajc_bridge import daemon  # noqa: PLC0415 - only the child process needs it
    from ajc_bridge.config import load_config  # noqa: PLC0415

    async def run() -> int:
        signal.signal(signal.SIGPROF, sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return await daemon.run(load_config(config), lambda: load_config(config))

    code = uvloop.run(run())
    signal.setitimer(signal.ITIMER_PROF, 0)
    Path(out).write_text(json.dumps({"own": own, "below": below}))
    return code


def _where(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    parts = path.parts
    for root in ("ajc_bridge", "ajc"):
        if root in parts:
            return "/".join(parts[parts.index(root) :])
    return "/".join(parts[-2:])


def shares(title: str, counts: Counter[str], total: int, most: int) -> None:
    print(f"\n{title}")
    for name, count in counts.most_common(most):
        print(f"  {count / total:6.1%}  {name}")


async def main(tasks: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="ajc-where-"))
    out = folder / "samples.json"
    bench = await measure.open_bench(folder)
    plain = bench.start

    def start(*command: str) -> subprocess.Popen[bytes]:
        if command[:2] == ("-m", "ajc_bridge"):
            return plain(str(HERE / "where.py"), "--daemon", command[-1], str(out))
        return plain(*command)

    bench.start = start  # type: ignore[method-assign]
    try:
        run = await bench.run(bench.start_bridge, tasks)
    finally:
        bench.stop_all()
    counts = json.loads(out.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    own = Counter(counts["own"])
    total = sum(own.values())
    rooms: Counter[str] = Counter()
    for name, count in own.items():
        rooms[name.partition(":")[0]] += count
    print(
        f"{tasks} tasks, {run.cpu_us:.1f} us CPU a task (the sampler's own included), {total} samples, start included"
    )
    shares("own time by function", own, total, 40)
    shares("own time by module", rooms, total, 25)
    shares("with callees, by module", Counter(counts["below"]), total, 25)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--daemon"]:
        sys.exit(sampled_daemon(sys.argv[2], sys.argv[3]))
    parser = argparse.ArgumentParser(description="where the bridge's time goes")
    parser.add_argument("--tasks", type=int, default=40_000)
    sys.exit(asyncio.run(main(parser.parse_args().tasks)))
