"""`enqueue_many` of the SDK, as a producer uses it; what `enqueue_floor.py` is the floor of.

    python bench/enqueue_sdk.py URL QUEUE COUNT

The tasks are made before the clock starts: what is measured is the call. Prints {"tasks": n, "seconds": s, "cpu": s}.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

import uvloop

import ajc


async def main() -> None:
    url, queue, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    payload = b'"' + b"x" * 198 + b'"'
    tasks = [ajc.new_task("bench", payload) for _ in range(count)]
    async with ajc.connect(url) as client:
        await asyncio.sleep(0)
        gc.freeze()
        began, cpu = time.monotonic(), time.process_time()
        done = 0
        async for _ in client.enqueue_many(tasks, queue=queue):
            done += 1
        result = {"tasks": done, "seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
