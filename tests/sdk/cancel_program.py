"""Cancels one task and says how it went: URL ID. The environment names where it is killed."""

from __future__ import annotations

import asyncio
import sys

import ajc


async def main(url: str, task_id: str) -> str:
    async with ajc.connect(url) as client:
        try:
            return (await client.cancel(task_id, "mistake")).state
        except ajc.AjcError as error:
            return type(error).__name__


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:3])))
