"""A responder that keeps every rule, and does one thing wrong when it is told to.

It has nothing of the SDK's responder: bytes in, bytes out. `python faulty_responder.py FAMILY FAULT FOLDER` runs
it as a program.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ajc.connection import Connection, Message
from ajc.context import resolve
from ajc.headers import parse_headers
from ajc.instant import Instant

NAMES = ("echo", "fail", "crash", "terminate", "busy", "later", "about", "slow", "progress", "trace")
CONCURRENCY = 10


class Outcome(Exception):  # noqa: N818
    """How a handler says that it did not work out."""

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        super().__init__()
        self.headers = headers


class Request:
    def __init__(self, message: Message, fault: str) -> None:
        self.reply = message.reply
        self.items = list(parse_headers(message.headers or b"NATS/1.0\r\n\r\n").items)
        self.fault = fault
        self.task = json.loads(message.body)
        if fault == "refuses unknown keys" and "conform_text" in self.task:
            raise Outcome([("AJ-Error", "unknown key")])
        if fault == "refuses unknown headers" and self.header("X-Conform"):
            raise Outcome([("AJ-Error", "unknown header")])
        self.payload = self._payload()
        self.stopped = asyncio.Event()
        self.reason = ""

    def header(self, wanted: str) -> str | None:
        for name, value in self.items:
            same = name == wanted if self.fault == "knows headers in one case" else name.lower() == wanted.lower()
            if same and (value.strip() or self.fault == "takes a blank header"):
                return value
        return None

    def number(self, wanted: str, otherwise: int = 0) -> int:
        return int(self.header(wanted) or otherwise)

    def _payload(self) -> bytes:
        payload = self.task["payload"]
        if payload is None:
            if self.fault == "cannot take null":
                raise Outcome([("AJ-Error", "no payload")])
            return b""
        return payload.encode() if self.fault == "forgets base64" else base64.b64decode(payload)


class FaultyResponder:
    def __init__(self, connection: Connection, family: str, prefix: str = "ajc.exec", fault: str = "") -> None:
        self.connection = connection
        self.family = family
        self.prefix = prefix
        self.fault = fault
        self.running = dict.fromkeys(NAMES, 0)
        self.counts = {name: [0, 0] for name in NAMES}
        self.tasks: set[asyncio.Task[None]] = set()
        self.subscriptions: list[Any] = []
        self.turn = asyncio.Lock()
        self.room = asyncio.Semaphore(4)
        self.current: set[Request] = set()
        self.draining = False

    async def serve(self) -> None:
        group = {"is in another group": "workers", "is in no group": ""}.get(self.fault, "ajc")
        for name in NAMES:
            if self.fault == f"does not serve {name}" or (self.fault == "serves echo alone" and name != "echo"):
                continue
            subject = f"{self.prefix}.{self.family}:{name}"
            self.subscriptions.append(await self.connection.subscribe(subject, self._taker(name), queue=group))
        if self.fault == "subscribes too widely":
            self.subscriptions.append(await self.connection.subscribe(f"{self.prefix}.>", self._taker(""), queue="ajc"))
        if self.fault == "listens too widely":
            await self.connection.subscribe(f"{self.prefix}.*", lambda _message: None)
        if self.fault != "is no service":
            for verb in ("PING", "INFO", "STATS"):
                await self.connection.subscribe(f"$SRV.{verb}", self._described(verb))
        await self.connection.flush()

    async def drain(self) -> None:
        """Leave the group, then let what runs end."""
        if self.fault == "goes on taking requests":
            await asyncio.gather(*self.tasks)
        for subscription in self.subscriptions:
            await subscription.drain()
        if self.fault != "cuts off its work":
            await asyncio.gather(*self.tasks)
        await self.connection.close()

    def _taker(self, name: str) -> Callable[[Message], None]:
        def taken(message: Message) -> None:
            called = name or message.subject.rpartition(":")[2]
            running = asyncio.ensure_future(self._answer(called if called in NAMES else "echo", message))
            self.tasks.add(running)
            running.add_done_callback(self.tasks.discard)

        return taken

    async def _answer(self, name: str, message: Message) -> None:
        if self.fault == "does one thing at a time":
            async with self.turn:
                await self._answer_now(name, message)
        elif self.fault == "has a queue of its own" and name == "slow":
            async with self.room:
                await self._answer_now(name, message)
        else:
            await self._answer_now(name, message)

    async def _answer_now(self, name: str, message: Message) -> None:
        headers: list[tuple[str, str]] = []
        body: bytes | None = b""
        if self.running[name] >= CONCURRENCY and self.fault != "has a queue of its own":
            self._send(message.reply, [("AJ-Busy", "enough to do")], b"")
            return
        self.running[name] += 1
        crashed = False
        try:
            request = Request(message, self.fault)
            self._check_protocol(request.header("AJ-Protocol"))
            body = await self._attempt(name, request)
        except Outcome as outcome:
            headers = outcome.headers
        except Exception as error:  # noqa: BLE001
            crashed = True
            if self.fault == "dies of an accident":
                os._exit(3)
            if self.fault == "does not answer an accident":
                return
            headers = [("AJ-Error", str(error) or type(error).__name__)]
            if self.fault == "has no text for an accident":
                headers = [("AJ-Error", "")]
        finally:
            if not (crashed and self.fault == "loses a place with each accident"):
                self.running[name] -= 1
        self._count(name, headers)
        if body is not None:
            self._send(message.reply, headers, body)

    def _check_protocol(self, version: str | None) -> None:
        if version not in (None, "1") and self.fault != "runs any protocol":
            named = "" if self.fault == "does not name the protocol" else f" {version}"
            raise Outcome([("AJ-Busy", f"protocol{named} is not known here")])

    def _count(self, name: str, headers: list[tuple[str, str]]) -> None:
        words = {"AJ-Error", "AJ-Terminate"} | ({"AJ-Busy"} if self.fault == "counts busy as an error" else set())
        count = self.counts[name]
        count[0] += 2 if self.fault == "counts twice" else 1
        count[1] += bool(words & {word for word, _ in headers}) and self.fault != "counts no errors"

    async def _attempt(self, name: str, request: Request) -> bytes | None:
        """Run a handler within its time; None when no reply is due any more."""
        loop = asyncio.get_running_loop()
        timeout = request.number("AJ-Timeout-Ms", 10_000) / 1000
        if self.fault == "ignores AJ-Timeout-Ms":
            timeout = _seconds_until(request.header("AJ-Handler-Deadline"))
        until = _seconds_until(request.task.get("deadline"))
        ends = min(loop.time() + timeout, loop.time() + until)
        most = loop.time() + until
        if self.fault == "goes past the task's deadline":
            most = loop.time() + 3600

        def more_time() -> None:
            nonlocal ends
            if self.fault != "is given no time by beats":
                ends = min(loop.time() + timeout, most)

        beating = asyncio.ensure_future(self._beat(name, request, more_time))
        cancel = None
        if self.fault != "ignores cancel":
            subject = (
                "ajc.cancel.*" if self.fault == "takes any cancel for its own" else f"ajc.cancel.{request.task['id']}"
            )
            cancel = await self.connection.subscribe(subject, lambda message: _cancelled(request, message))
        work = asyncio.ensure_future(self._work(name, request))
        stopped = asyncio.ensure_future(request.stopped.wait())
        self.current.add(request)
        try:
            while not work.done() and not stopped.done() and (loop.time() < ends or self.fault == "replies too late"):
                left = ends - loop.time() if self.fault != "replies too late" else None
                await asyncio.wait((work, stopped), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if stopped.done():
                raise Outcome([("AJ-Terminate", f"cancelled: {request.reason}")])
            if self.fault == "terminates at the deadline":
                raise Outcome([("AJ-Terminate", "too late")])
            return None
        finally:
            self.current.discard(request)
            work.cancel()
            stopped.cancel()
            if self.fault in ("beats after the reply", "beats after a cancel"):
                loop.call_later(2.5, beating.cancel)
            else:
                beating.cancel()
            if cancel is not None:
                await cancel.unsubscribe()

    async def _beat(self, name: str, request: Request, more_time: Callable[[], None]) -> None:
        subject = request.header("AJ-Heartbeat-Subject")
        if self.fault == "beats unasked":
            subject = subject or f"ajc.beat.default.{request.reply.rpartition('.')[2]}"
        if subject is None or self.fault == "does not beat":
            return
        pause = request.number("AJ-Heartbeat-Ms", 200) / 1000
        if self.fault == "beats too rarely":
            pause *= 4
        if self.fault == "beats late":
            await asyncio.sleep(1.5)
        while not (request.stopped.is_set() and self.fault != "beats after a cancel"):
            self.connection.publish(subject)
            more_time()
            await asyncio.sleep(1.5 if self.fault == "blocks the beats" and name == "slow" else pause)

    async def _work(self, name: str, request: Request) -> bytes | None:
        text = request.payload.decode("utf-8", "replace")
        match name:
            case "echo":
                return self._echo(request.payload)
            case "fail":
                raise Outcome([("AJ-Error", self._failure(text))])
            case "crash":
                raise ValueError(text)
            case "terminate":
                raise Outcome([("AJ-Error" if self.fault == "says error for terminate" else "AJ-Terminate", text)])
            case "busy":
                raise Outcome([("AJ-Error" if self.fault == "says error for busy" else "AJ-Busy", text)])
            case "later":
                raise Outcome(self._later(text))
            case "about":
                return self._about(request)
            case "slow":
                await asyncio.sleep(int(text) / 1000)
                return request.payload
            case "progress":
                await self._progress(request)
                return b"done"
            case "trace":
                given = request.header("traceparent") or ""
                if self.fault == "loses the trace":
                    given = ""
                if self.fault == "makes a trace up" and not given:
                    given = "00-" + "1" * 32 + "-" + "2" * 16 + "-00"
                return given.encode()
        raise AssertionError(name)

    def _echo(self, payload: bytes) -> bytes | None:
        match self.fault:
            case "never replies":
                return None
            case "decodes as UTF-8":
                return payload.decode("utf-8", "replace").encode()
            case "trims results":
                return payload.strip()
            case "writes results as JSON":
                return json.dumps(payload.decode("latin-1")).encode()
            case "does not reply to nothing":
                return payload or None
            case "says an error beside the result":
                raise Outcome([("AJ-Error", "none")])
        return payload

    def _failure(self, text: str) -> str:
        match self.fault:
            case "fails without text":
                return ""
            case "fails with a text of its own":
                return "handler failed"
            case "cuts texts in a character":
                return text.encode()[:4096].decode("utf-8", "surrogateescape") or "failed"
            case "tells the first line only":
                return text.splitlines()[0] if text else "failed"
            case "does not cut texts":
                return text or "failed"
        return text.encode()[:4096].decode("utf-8", "ignore") or "failed"

    def _later(self, text: str) -> list[tuple[str, str]]:
        after = {
            "gives retry-after as a float": f"{int(text)}.0",
            "gives retry-after in seconds": str(int(text) // 1000),
            "gives retry-after in 32 bits": str(min(int(text), 2**31 - 1)),
        }.get(self.fault, text)
        pairs = [("AJ-Error", "later")]
        return pairs if self.fault == "gives no retry-after" else [*pairs, ("AJ-Retry-After-Ms", after)]

    def _about(self, request: Request) -> bytes:
        numbers = [request.header("AJ-Try"), request.header("AJ-Max-Tries")]
        if self.fault != "tells numbers as texts":
            numbers = [int(number) if number else None for number in numbers]  # type: ignore[misc]
        told = {
            "id": request.header("AJ-Task-Id"),
            "type": request.header("AJ-Task-Type"),
            "queue": request.header("AJ-Queue"),
            "try": 1 if self.fault == "knows only the first try" else numbers[0],
            "max_tries": numbers[1],
        }
        return json.dumps(told).encode()

    async def _progress(self, request: Request) -> None:
        subject = request.header("AJ-Heartbeat-Subject")
        for quarter in range(1, 5):
            if subject and self.fault != "tells no progress":
                percent: object = quarter * 25
                if self.fault == "tells progress as a text":
                    percent = f"{percent}%"
                self.connection.publish(
                    subject, json.dumps({"percent": percent, "message": f"quarter {quarter} of 4"}).encode()
                )
            await asyncio.sleep(0.01)

    def _send(self, reply: str, headers: list[tuple[str, str]], body: bytes) -> None:
        block = None
        if headers:
            raw = self.fault == "breaks lines in texts"
            encoding = "latin-1" if self.fault == "writes Latin-1" else "utf-8"
            lines = [
                f"{name}: {text if raw else text.replace(chr(13), ' ').replace(chr(10), ' ')}\r\n"
                for name, text in headers
            ]
            errors = "replace" if encoding == "latin-1" else "surrogateescape"
            block = b"NATS/1.0\r\n" + "".join(lines).encode(encoding, errors) + b"\r\n"
        self.connection.publish(reply, body, headers=block)
        if self.fault == "replies twice":
            self.connection.publish(reply, body, headers=block)
        if self.fault == "floods":
            for _ in range(3_000):
                self.connection.publish(reply, body, headers=block)

    def _described(self, verb: str) -> Callable[[Message], None]:
        def asked(message: Message) -> None:
            about = {
                "name": "scripted",
                "id": self.family,
                "version": "1" if self.fault == "has no version" else "1.2.3",
            }
            about["type"] = f"io.nats.micro.v1.{verb.lower()}_response"
            told: dict[str, Any] = dict(about)
            if verb != "PING":
                told["endpoints"] = [self._endpoint(name) for name in NAMES]
            self.connection.publish(message.reply, json.dumps(told).encode())

        return asked

    def _endpoint(self, name: str) -> dict[str, Any]:
        kind = f"{self.family}:{name}"
        metadata = {"ajc.type": kind, "ajc.concurrency": str(CONCURRENCY), "ajc.protocol": "1"}
        if self.fault == "has no metadata":
            metadata = {}
        if self.fault == "tells no concurrency":
            metadata["ajc.concurrency"] = "many"
        requests, errors = self.counts[name]
        return {
            "name": name,
            "subject": f"{self.prefix}.{kind}",
            "queue_group": "q" if self.fault == "names another group" else "ajc",
            "metadata": metadata,
            "num_requests": requests,
            "num_errors": errors,
        }


def _cancelled(request: Request, message: Message) -> None:
    request.reason = message.body.decode()
    request.stopped.set()


def _seconds_until(moment: str | None) -> float:
    return 3600.0 if moment is None else (Instant.parse(moment) - time.time_ns()) / 1e9


async def main(family: str, fault: str, folder: Path) -> int:
    mark = folder / "started"
    if fault == "starts only once":
        if mark.exists():
            print("there is a lock")
            return 1
        mark.touch()
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)

    def state_changed(state: str, _error: BaseException | None) -> None:
        if state == "disconnected" and fault == "does not come back" and not ending.is_set():
            os._exit(4)

    connection = await Connection.open(resolve(), on_state=state_changed, wait_for_server=True)
    responder = FaultyResponder(connection, family, fault=fault)
    await responder.serve()
    print("serving", flush=True)
    await ending.wait()
    await responder.drain()
    return 1 if fault == "ends with 1" else 0


if __name__ == "__main__":
    _, family, fault, folder = sys.argv
    sys.exit(asyncio.run(main(family, fault, Path(folder))))
