"""The exec protocol on plain nats-py: all but discovery. Copy this file, and give `serve` your handlers."""

import asyncio
import base64
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import nats


class Say(Exception):
    """What a header of the reply is to say: AJ-Error, AJ-Terminate or AJ-Busy."""

    def __init__(self, header, text, retry_after_ms=None):
        super().__init__(text)
        self.header, self.retry_after_ms = header, retry_after_ms


class Attempt:
    """What a handler gets. It runs in a thread: `cancelled.wait(seconds)` is a sleep that ends when nobody wants it."""

    def __init__(self, request, publish):
        said = {name.lower(): value.strip() for name, value in (request.headers or {}).items() if value.strip()}
        if said.get("aj-protocol", "1") != "1":
            raise Say("AJ-Busy", f"AJ-Protocol {said['aj-protocol']} is not known here")
        task = json.loads(request.data)
        self.payload = base64.b64decode(task.get("payload") or "")
        self.id, self.type = said.get("aj-task-id", task["id"]), said.get("aj-task-type", task["type"])
        self.queue, self.traceparent = said.get("aj-queue", task.get("queue", "")), said.get("traceparent", "")
        self.try_number, self.max_tries = int(said.get("aj-try", 1)), int(said.get("aj-max-tries", 0))
        self.run_time = int(said["aj-timeout-ms"]) / 1000
        self.ends, self.last = time.monotonic() + self.run_time, float("inf")
        if task.get("deadline"):  # both by the bridge's clock, which need not agree with this one
            left = datetime.fromisoformat(task["deadline"]) - datetime.fromisoformat(said["aj-handler-deadline"])
            self.last = self.ends + left.total_seconds()
        self.beat_subject = said.get("aj-heartbeat-subject")
        self.period = int(said.get("aj-heartbeat-ms", 1000)) / 2000  # half of it: one beat may be late
        self.cancelled = threading.Event()
        self._publish, self._loop = publish, asyncio.get_running_loop()
        self.stopped = self._loop.create_future()  # the reason, once the task is cancelled

    def progress(self, percent, message):
        """Say how far it is, from the handler's thread."""
        body = json.dumps({"percent": percent, "message": message}).encode()
        asyncio.run_coroutine_threadsafe(self.beat(body), self._loop).result()

    async def beat(self, body=b""):
        if self.beat_subject and not self.cancelled.is_set():
            await self._publish(self.beat_subject, body)
            self.ends = max(self.ends, min(time.monotonic() + self.run_time, self.last))


class Responder:
    def __init__(self, nc, handlers, concurrency):
        self.nc, self.handlers, self.concurrency = nc, handlers, concurrency
        self.pool = ThreadPoolExecutor(concurrency)
        self.running, self.tasks, self.ending = {}, set(), False

    async def asked(self, request):
        """Begin at once, so that the next request is not kept waiting."""
        task = asyncio.create_task(self.answer(request, self.handlers[request.subject.removeprefix("ajc.exec.")]))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, request, handler):
        try:
            if self.ending or len(self.running) >= self.concurrency:
                raise Say("AJ-Busy", "no room here")
            result = await self.handled(Attempt(request, self.nc.publish), handler)
            if result is None:
                return  # too late for a reply
            headers = {}
            if len(result) > self.nc.max_payload:
                raise Say("AJ-Terminate", f"a result of {len(result)} bytes does not fit")
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split()).encode(errors="replace")[:1000].decode(errors="ignore")
            result, headers = b"", {getattr(error, "header", "AJ-Error"): text or type(error).__name__}
            if getattr(error, "retry_after_ms", None) is not None:
                headers["AJ-Retry-After-Ms"] = str(error.retry_after_ms)
        await self.nc.publish(request.reply, result, headers=headers)

    async def handled(self, attempt, handler):
        """Run the handler in a thread, and beat until it ends, is cancelled, or its time is over."""
        work = self.running[attempt] = asyncio.get_running_loop().run_in_executor(self.pool, handler, attempt)
        work.add_done_callback(lambda _: self.running.pop(attempt))  # a thread keeps its place until it returns
        try:
            while not (work.done() or attempt.stopped.done()):
                left = attempt.ends - time.monotonic()
                if left <= 0:
                    return None
                pause = min(left, attempt.period)
                done, _ = await asyncio.wait((work, attempt.stopped), timeout=pause, return_when="FIRST_COMPLETED")
                if not done and left > pause:
                    await attempt.beat()
            if attempt.stopped.done():
                raise Say("AJ-Terminate", f"cancelled: {attempt.stopped.result()}")
            return work.result()
        finally:
            attempt.cancelled.set()

    async def cancelled(self, message):
        for attempt in self.running:
            if message.subject == f"ajc.cancel.{attempt.id}" and not attempt.stopped.done():
                attempt.stopped.set_result(message.data.decode(errors="replace"))


async def serve(handlers, concurrency=10, drain=30):
    """Serve these handlers ({type: function of an Attempt that returns bytes}) until SIGTERM."""
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)  # for ever
    responder, stop = Responder(nc, handlers, concurrency), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await nc.subscribe("ajc.cancel.*", cb=responder.cancelled)
    types = [await nc.subscribe(f"ajc.exec.{kind}", queue="ajc", cb=responder.asked) for kind in handlers]
    await nc.flush()
    print("serving", *handlers, flush=True)
    await stop.wait()
    responder.ending = True
    for subscription in types:
        await subscription.drain()  # leaves the queue group
    if responder.tasks:
        await asyncio.wait(responder.tasks, timeout=drain)
    await nc.drain()
    os._exit(0)  # a thread that hangs must not keep the process
