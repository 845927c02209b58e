"""A responder without the SDK. Replace the handlers by yours, and start it: python responder.py"""

import asyncio
import hashlib
import json
import os
import time

from exec_protocol import Say, serve

FAMILY = os.environ.get("AJC_FAMILY", "conform")


def checksum(attempt):
    """Digest the payload."""
    if not attempt.payload:
        raise Say("AJ-Terminate", "nothing to digest")  # trying again would not help
    return hashlib.sha256(attempt.payload).hexdigest().encode()


# The scripted tasks of the conformance kit; yours needs none of them.
def say(header):
    def handler(attempt):
        raise Say(header, attempt.payload.decode())

    return handler


def crash(attempt):
    raise RuntimeError(attempt.payload.decode())


def later(attempt):
    raise Say("AJ-Error", "later", retry_after_ms=int(attempt.payload))


def about(attempt):
    told = {"id": attempt.id, "type": attempt.type, "queue": attempt.queue}
    return json.dumps(told | {"try": attempt.try_number, "max_tries": attempt.max_tries}).encode()


def slow(attempt):
    time.sleep(int(attempt.payload) / 1000)
    return attempt.payload


def progress(attempt):
    for quarter in range(1, 5):
        attempt.progress(25 * quarter, f"quarter {quarter} of 4")
    return b"done"


HANDLERS = {
    "checksum": checksum,
    "numbers:sum": lambda attempt: str(sum(json.loads(attempt.payload))).encode(),  # what it raises: tried again
    f"{FAMILY}:echo": lambda attempt: attempt.payload,
    f"{FAMILY}:fail": say("AJ-Error"),
    f"{FAMILY}:crash": crash,
    f"{FAMILY}:terminate": say("AJ-Terminate"),
    f"{FAMILY}:busy": say("AJ-Busy"),
    f"{FAMILY}:later": later,
    f"{FAMILY}:about": about,
    f"{FAMILY}:slow": slow,
    f"{FAMILY}:progress": progress,
    f"{FAMILY}:trace": lambda attempt: attempt.traceparent.encode(),
}

if __name__ == "__main__":
    asyncio.run(serve(HANDLERS))
