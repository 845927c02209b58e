"""A responder of a chaos run: does what the payload says, and writes down every request and reply before it answers.

    python tests/chaos/responder.py URL[,URL...] NAME LOG TYPE[,TYPE...]

Plain nats-py, no SDK: it shares nothing with the product. A line of the log is one write, so that a SIGKILL cuts none.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nats
from nats.aio.msg import Msg

from chaos.history import digest


class Responder:
    def __init__(self, name: str, log: str) -> None:
        self.name = name
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.busy: dict[str, int] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def note(self, what: str, task: str, try_number: int, of: str, **more: Any) -> None:
        entry = {"what": what, "task": task, "at_ns": time.time_ns(), "responder": self.name, "try_number": try_number,
                 "digest": of, **more}  # fmt: skip
        os.write(self.log, json.dumps(entry).encode() + b"\n")

    async def on_request(self, message: Msg) -> None:
        headers = {name.lower(): value for name, value in (message.headers or {}).items()}
        task, number, of = headers["aj-task-id"], int(headers["aj-try"]), digest(message.data)
        self.note("request", task, number, of)
        answer = asyncio.create_task(self.answer(message, task, number, of))
        self.tasks.add(answer)
        answer.add_done_callback(self.on_answered)

    def on_answered(self, answer: asyncio.Task[None]) -> None:
        self.tasks.discard(answer)
        if not answer.cancelled() and (error := answer.exception()) is not None:
            print(f"{self.name}: {error!r}", file=sys.stderr, flush=True)
            os._exit(3)  # the driver sees that a process died by itself

    async def answer(self, message: Msg, task: str, number: int, of: str) -> None:
        payload = json.loads(base64.b64decode(json.loads(message.data)["payload"]))
        kind, text = await self.decide(payload, task, number)
        self.note("reply", task, number, of, kind=kind, text=text)
        header = {"error": "AJ-Error", "terminate": "AJ-Terminate", "busy": "AJ-Busy"}.get(kind)
        client = message._client
        if header is None:
            await client.publish(message.reply, text.encode())
        else:
            await client.publish(message.reply, b"", headers={header: text})

    async def decide(self, payload: dict[str, Any], task: str, number: int) -> tuple[str, str]:
        """(kind, text) of the reply; a success's text is its result, unlike that of any other attempt."""
        does, result = payload["do"], f"{task} try {number} by {self.name} at {time.time_ns()}"
        match does:
            case "recover" if number <= payload["fails"]:
                return "error", f"failed as told, try {number}"
            case "terminate":
                return "terminate", f"stopped as told, try {number}"
            case "fail" | "deadline":
                await asyncio.sleep(0.05)
                return "error", f"failed as always, try {number}"
            case "busy":
                self.busy[task] = self.busy.get(task, 0) + 1
                if self.busy[task] <= 2:
                    return "busy", f"busy as told, {self.busy[task]}"
            case "slow":
                await asyncio.sleep(payload["seconds"])
            case "overrun" if number == 1:
                await asyncio.sleep(payload["seconds"])
        return "success", result


async def main() -> None:
    url, name, log, types = sys.argv[1:5]
    responder = Responder(name, log)
    client = await nats.connect(
        url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.05, allow_reconnect=True
    )
    for kind in types.split(","):
        await client.subscribe(f"ajc.exec.chaos-{kind}", queue="ajc", cb=responder.on_request)
    await client.flush()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)
    await stopped.wait()
    for subscription in list(client._subs.values()):
        await subscription.unsubscribe()
    if responder.tasks:
        await asyncio.wait(set(responder.tasks), timeout=10)
    await client.flush()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
