"""The stage of a benchmark: a real nats-server, the streams as the bridge makes them, tasks that are already stored."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from wireclient import WireClient

TASKS, DELAY, DLQ = "CHORIA_AJ_TASKS", "CHORIA_AJ_DELAY", "CHORIA_AJ_DLQ"
TASK_TYPE = "bench"
NEVER = "2099-01-01T00:00:00Z"


class Server:
    """nats-server on a port of its own choice, its store in `folder`, with the default sync interval."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        beside = Path(sys.executable).parent / "nats-server"
        binary = str(beside) if beside.exists() else shutil.which("nats-server")
        if binary is None:
            raise SystemExit("no nats-server beside this interpreter or on PATH: run `make setup`")
        ports = folder / "ports"
        ports.mkdir(parents=True)
        self.process = subprocess.Popen(
            [
                binary,
                "-a",
                "127.0.0.1",
                "-p",
                "-1",
                "-js",
                "-sd",
                str(folder / "store"),
                "--ports_file_dir",
                str(ports),
            ],
            stdout=(folder / "server.log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        self.port = self._wait_for_port(ports)

    def _wait_for_port(self, ports: Path) -> int:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            for file in ports.glob("*.ports"):
                try:
                    return int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
                except (ValueError, KeyError):
                    continue  # the file is being written
            time.sleep(0.02)
        raise SystemExit(f"nats-server did not start: see {self.folder / 'server.log'}")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


async def make_stores(client: WireClient) -> None:
    """The streams shared by all queues."""
    base = {"storage": "file", "num_replicas": 1, "discard": "old", "max_msgs_per_subject": 1}
    tasks = {
        "name": TASKS,
        "subjects": ["CHORIA_AJ.T.*"],
        "retention": "limits",
        "allow_direct": True,
        "allow_msg_ttl": True,
    }
    delay = {
        "name": DELAY,
        "subjects": ["CHORIA_AJ.D.S.*.*", "CHORIA_AJ.D.F.*.*"],
        "retention": "workqueue",
        "allow_msg_schedules": True,
    }
    dlq = {"name": DLQ, "subjects": ["CHORIA_AJ.DLQ.*.*"], "retention": "limits"}
    for stream in (tasks, delay, dlq):
        await client.api(f"STREAM.CREATE.{stream['name']}", {**base, **stream})


async def make_queue(client: WireClient, queue: str) -> None:
    """A queue with its consumer paused: whoever is measured binds and pulls first, then `release` opens the gate."""
    stream = f"CHORIA_AJ_Q_{queue}"
    transform = {"src": f"CHORIA_AJ.D.F.{queue}.*", "dest": f"CHORIA_AJ.Q.{queue}.{{{{wildcard(1)}}}}"}
    config: dict[str, Any] = {
        "name": stream,
        "subjects": [f"CHORIA_AJ.Q.{queue}.>"],
        "retention": "workqueue",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "storage": "file",
        "num_replicas": 1,
        "sources": [{"name": DELAY, "subject_transforms": [transform]}],
        "metadata": {"ajc.max_run_time": "1m"},
    }
    await client.api(f"STREAM.CREATE.{stream}", config)
    consumer = {
        "durable_name": "WORKERS",
        "name": "WORKERS",
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": 30_000_000_000,
        "max_deliver": -1,
        "max_ack_pending": 1000,
        "pause_until": NEVER,
    }
    await client.api(f"CONSUMER.CREATE.{stream}.WORKERS", {"stream_name": stream, "config": consumer, "action": ""})


def task_ids(count: int) -> list[str]:
    """27 characters each, as a KSUID has; unlike those of any other call."""
    run = os.urandom(8).hex()
    return [f"{run}{number:011d}" for number in range(count)]


def new_task(task_id: str, queue: str, created: str, payload: str) -> bytes:
    return (
        f'{{"id":"{task_id}","type":"{TASK_TYPE}","queue":"{queue}","payload":"{payload}","max_tries":10,'
        f'"state":"new","created":"{created}","tries":0}}'
    ).encode()


def payload_of(size: int) -> str:
    """A JSON string of `size` bytes, as base64."""
    return base64.b64encode(b'"' + b"x" * (size - 2) + b'"').decode()


async def prefill(client: WireClient, queues: list[str], count: int, size: int = 200) -> list[str]:
    """Store `count` tasks and their items, spread over the queues; each write is acknowledged, 2,000 are in flight."""
    ids = task_ids(count)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    payload = payload_of(size)
    new = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
    for begin in range(0, count, 1000):
        answers = []
        for number, task_id in enumerate(ids[begin : begin + 1000], begin):
            queue = queues[number % len(queues)]
            body = new_task(task_id, queue, created, payload)
            answers.append(client.ask(f"CHORIA_AJ.T.{task_id}".encode(), body, new))
            item = f'{{"kind":0,"job":"{task_id}"}}'.encode()
            headers = f"NATS/1.0\r\nNats-Msg-Id: {task_id}\r\n\r\n".encode()
            answers.append(client.ask(f"CHORIA_AJ.Q.{queue}.{task_id}".encode(), item, headers))
        for _, answer in await asyncio.gather(*answers):
            if b'"error"' in answer:
                raise RuntimeError(answer.decode())
    return ids


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Ask every 10 ms until it holds; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 # another process's state: there is no event to wait for
            await asyncio.sleep(0.01)


async def wait_for_pulls(
    client: WireClient, queues: list[str], contender: subprocess.Popen[bytes], seconds: float = 60
) -> None:
    """Until the contender has a pull outstanding on every queue; RuntimeError when it ends instead."""

    async def pulled(queue: str) -> bool:
        if contender.poll() is not None:
            raise RuntimeError(f"the contender ended with exit code {contender.returncode}")
        return bool((await client.api(f"CONSUMER.INFO.CHORIA_AJ_Q_{queue}.WORKERS")).get("num_waiting"))

    for queue in queues:
        await until(partial(pulled, queue), seconds)


async def release(client: WireClient, queues: list[str]) -> list[str]:
    """Open the gates; the ids of one more task a queue, stored because nats-server 2.15.1 serves a waiting pull only
    when something arrives."""
    for queue in queues:
        await client.api(f"CONSUMER.PAUSE.CHORIA_AJ_Q_{queue}.WORKERS", {})
    return await prefill(client, queues, len(queues))


async def wait_until_empty(client: WireClient, queues: list[str], seconds: float) -> None:
    """Until every item is acknowledged; asked every 10 ms, of one queue at a time."""

    async def empty(queue: str) -> bool:
        return not (await client.api(f"STREAM.INFO.CHORIA_AJ_Q_{queue}"))["state"]["messages"]

    for queue in queues:
        await until(partial(empty, queue), seconds)


async def remove(client: WireClient, queues: list[str]) -> None:
    for queue in queues:
        await client.api(f"STREAM.DELETE.CHORIA_AJ_Q_{queue}")
    await client.api(f"STREAM.PURGE.{TASKS}")


async def check_results(client: WireClient, ids: list[str]) -> None:
    """Every record complete, tried once, holding the responder's answer: else the figure means nothing."""
    done: list[dict[str, Any]] = []
    for begin in range(0, len(ids), 1000):
        wanted = [f"CHORIA_AJ.T.{task_id}" for task_id in ids[begin : begin + 1000]]
        done += await _records(client, wanted)
    wrong = [task for task in done if _fault(task)]
    if len(done) != len(ids) or wrong:
        raise RuntimeError(f"{len(done)} of {len(ids)} records read, {len(wrong)} wrong, such as {wrong[:1]}")


def _fault(task: dict[str, Any]) -> bool:
    if task["state"] != "complete" or task["tries"] != 1:
        return True
    return bool(base64.b64decode(task["result"]["payload"]) != b"ok")


async def _records(client: WireClient, subjects: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    finished: asyncio.Future[None] = client.loop.create_future()

    def on_record(subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del subject, reply
        if headers.startswith(b"NATS/1.0 "):
            if not finished.done():
                finished.set_result(None)
        else:
            found.append(json.loads(body))

    reply = b"bench.records." + os.urandom(8).hex().encode()
    client.subscribe(reply, on_record)
    client.publish(b"$JS.API.DIRECT.GET." + TASKS.encode(), json.dumps({"multi_last": subjects}).encode(), reply)
    async with asyncio.timeout(30):
        await finished
    return found
