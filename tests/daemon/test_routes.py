"""Two generations of responders side by side: a type's own prefix, what Go's responders know, a catch-all."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from outside import world_of
from scripted_responder import Reply, done

from ajc.headers import parse_headers

ROUTES = """
[exec]
catchall = true
[exec.routes]
"legacy:job" = "CHORIA_AJ.H.T"
"legacy:other" = "CHORIA_AJ.H.T"
"email:new" = "CHORIA_AJ.H.T"
[queues.Q]
[queues.ONE]
max_tries = 1
"""
VECTORS = Path(__file__).parent.parent / "vectors" / "remote_exec.jsonl"
GO_NAMES = {
    "success_text",
    "success_json",
    "success_empty_body",
    "success_empty_body_with_header",
    "success_non_utf8",
    "success_html",
    "error",
    "error_retry",
    "terminate",
    "both",
    "error_empty_value",
    "terminate_empty_error_set",
    "error_two_values",
    "error_surrounding_blanks",
    "error_unicode_html",
}
"""Where this bridge stores what Go stores; the wording of errors and the case of header names differ by intention."""
GO_CASES = [case for line in VECTORS.read_text().splitlines()[1:] if (case := json.loads(line))["name"] in GO_NAMES]


async def test_old_and_new_responders_live_side_by_side(own_server, make_bridge, kind) -> None:
    bridge = await make_bridge(own_server.url, ROUTES).ready()
    async with world_of(own_server.url, bridge) as world:
        new = await world.serve(kind, [done(b"new")])
        old = await world.serve("legacy:job", [done(b"old")], prefix="CHORIA_AJ.H.T")
        wrong = await world.serve("legacy:job", [done(b"wrong")])
        for type_, result in ((kind, b"new"), ("legacy:job", b"old")):
            found = await world.settled(await world.run(type_, queue="Q"), "complete")
            assert (found.result.data, found.tries) == (result, 1)
        assert (len(new.requests), len(old.requests), len(wrong.requests)) == (1, 1, 0)


async def test_the_catchall_of_a_routed_type_is_that_of_its_prefix(own_server, make_bridge, kind) -> None:
    """EXEC-40: nobody there, so the catch-all is asked, and no try is used before."""
    bridge = await make_bridge(own_server.url, ROUTES).ready()
    async with world_of(own_server.url, bridge) as world:
        nobody = await world.run("legacy:other", queue="Q")
        await world.until_schedule("Q", nobody.id)
        assert (await world.load(nobody.id)).last_err == "no responder on CHORIA_AJ.H.T.legacy:other"
        old = await world.serve("catchall", [done(b"old")], prefix="CHORIA_AJ.H.T")
        new = await world.serve("catchall", [done(b"new")])
        for task, result in ((nobody, b"old"), (await world.run(kind, queue="Q"), b"new")):
            found = await world.settled(task, "complete")
            assert (found.result.data, found.tries) == (result, 1)
        assert [responder.last.header("AJ-Task-Type") for responder in (old, new)] == ["legacy:other", kind]


async def test_a_responder_written_for_go_is_asked_as_go_asks(own_server, make_bridge) -> None:
    """What Go sent, and what it stored for each reply (EXEC-4, EXEC-6, EXEC-10, EXEC-11, EXEC-13, EXEC-17)."""
    bridge = await make_bridge(own_server.url, ROUTES).ready()
    by_payload: dict[bytes | None, Reply] = {}
    async with world_of(own_server.url, bridge) as world:
        old = await world.serve("email:new", lambda one: by_payload[one.task.payload], prefix="CHORIA_AJ.H.T")
        for case in GO_CASES:
            reply, outcome = case["reply"], case["outcome"]
            payload = case["name"].encode()
            headers = "".join(f"{name}: {value}\r\n" for name, value in reply["headers"] or [])
            block = f"NATS/1.0\r\n{headers}\r\n".encode() if headers else None
            by_payload[payload] = Reply(base64.b64decode(reply["body_base64"]), block)
            queue = "ONE" if case["queue_max_tries"] == 1 else "Q"
            task = await world.run("email:new", queue=queue, payload=payload)
            found = await world.until_state(task.id, outcome["state"])
            assert found.tries == outcome["tries"], case["name"]
            stored = None if found.result is None else found.result.data
            wanted = outcome["result"] and base64.b64decode(outcome["result"]["payload"])
            assert stored == wanted, case["name"]
            request = old.last
            assert request.subject == case["request"]["subject"]
            assert set(json.loads(case["request"]["body"])) <= set(json.loads(request.body))
            # Go's responders look headers up by their exact names
            assert set(case["request"]["headers"]) <= {name for name, _ in parse_headers(request.headers or b"").items}
            assert request.header("AJ-Content-Type") == case["request"]["headers"]["AJ-Content-Type"][0]
        assert len(old.requests) == len(GO_CASES)
