"""Enqueues one task and says how it went: URL QUEUE ID many|plain. The environment names where it is killed."""

from __future__ import annotations

import asyncio
import sys

import ajc


async def main(url: str, queue: str, task_id: str, way: str) -> str:
    async with ajc.connect(url) as client:
        try:
            if way == "many":
                tasks = [ajc.new_task("a", {"n": 1}, id=task_id)]
                _ = [task async for task in client.enqueue_many(tasks, queue=queue)]
            else:
                await client.enqueue("a", {"n": 1}, queue=queue, id=task_id)
        except ajc.AjcError as error:
            return type(error).__name__
    return "stored"


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:5])))
