"""A producer of one task, made to die by AJC_FAILPOINT: `python tests/chaos/producer.py URL QUEUE ID one|many`."""

from __future__ import annotations

import asyncio
import sys

import ajc


async def main() -> None:
    url, queue, task, how = sys.argv[1:5]
    async with ajc.connect(url) as client:
        if how == "one":
            await client.enqueue("chaos-ok", {"do": "ok"}, queue=queue, id=task, max_tries=10)
        else:
            tasks = [ajc.new_task("chaos-ok", {"do": "ok"}, id=task, max_tries=10)]
            async for _ in client.enqueue_many(tasks, queue=queue):
                pass


if __name__ == "__main__":
    asyncio.run(main())
