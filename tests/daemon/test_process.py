"""The process: exit codes, signals, probes, and what it says on stderr."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from signal import SIGHUP, SIGINT, SIGTERM

import pytest
from bridge_process import COMMAND, until
from outside import world_of
from scripted_responder import done

row = pytest.mark.row
EXIT_0 = "Exit code 0: drained (what was still running when the limit passed goes back uncounted)"
EXIT_2 = "Exit code 2: configuration; one line each on stderr, with the key's path"
EXIT_5 = "Exit code 5: connection refused for good or closed for good"
NOBODY = "nats://127.0.0.1:1"  # no server listens there


@row(EXIT_0)
@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
async def test_a_drain_lets_what_runs_end(own_server, make_bridge, kind, number):
    bridge = await make_bridge(own_server.url, '[queues.Q]\n[bridge]\ndrain = "20s"').ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [done(after=1.0)])
        task = await world.run(kind, queue="Q")
        await world.asked(responder)
        bridge.signal(number)
        await bridge.log("bridge.draining", running=1)
        later = await world.run(kind, queue="Q")
        assert await bridge.ended() == 0
        found = await world.settled(task, "complete")
        assert found.tries == 1
        assert (await world.load(later.id)).state == "new"
        assert await world.item("Q", later.id) is not None
        assert bridge.logs("bridge.drained", left=0)
        assert bridge.logs("bridge.stopped", code=0)


@row(EXIT_0)
@row("interrupted (drain limit passed)")
async def test_what_runs_beyond_the_drain_limit_goes_back_uncounted(own_server, make_bridge, kind):
    config = '[queues.Q]\nlease = "1m"\n[bridge]\ndrain = "500ms"'
    bridge = await make_bridge(own_server.url, config).ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [None, None, done()])
        new = await world.run(kind, queue="Q")
        await world.asked(responder)
        retry = await world.run(kind, queue="Q", state="retry", tries=2, last_err="boom")
        await world.asked(responder, 2)
        bridge.signal(SIGTERM)
        assert await bridge.ended() == 0
        assert bridge.logs("bridge.drained", left=2)
        found = await world.load(new.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "interrupted")
        found = await world.load(retry.id)
        assert (found.state, found.tries, found.last_err) == ("retry", 2, "interrupted")
        assert world.states(new.id) == ["active", "new"]
        # given back at once: the lease of a minute would hold them otherwise
        make_bridge(own_server.url, config)
        assert (await world.settled(new, "complete")).tries == 1
        assert (await world.settled(retry, "complete")).tries == 3


@row("A second signal ends it at once (1)")
async def test_a_second_signal_ends_at_once(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, '[queues.Q]\n[bridge]\ndrain = "10m"').ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [None])
        task = await world.run(kind, queue="Q")
        await world.asked(responder)
        bridge.signal(SIGTERM)
        await bridge.log("bridge.draining")
        bridge.signal(SIGTERM)
        assert await bridge.ended(5) == 1
        assert (await world.load(task.id)).state == "active"


@row(EXIT_0)
async def test_it_ends_while_it_still_seeks_its_server(make_bridge):
    bridge = make_bridge(NOBODY)
    await bridge.log("http.listening")
    bridge.signal(SIGTERM)
    assert await bridge.ended(10) == 0


@row(EXIT_0)
@pytest.mark.parametrize("fast", ["1", "0"])
async def test_it_ends_while_its_server_is_away(own_server, make_bridge, kind, fast):
    config = '[queues.Q]\n[bridge]\ndrain = "1s"'
    bridge = await make_bridge(own_server.url, config, env={"AJC_FAST": fast}).ready()
    async with world_of(own_server.url, bridge) as world:
        responder = await world.serve(kind, [None])
        await world.run(kind, queue="Q")
        await world.asked(responder)
    own_server.stop()
    await bridge.log("nats.disconnected")
    bridge.signal(SIGTERM)
    assert await bridge.ended(20) == 0
    assert "Traceback" not in bridge.text()


@row(EXIT_2)
@pytest.mark.parametrize(
    ("config", "lines"),
    [
        ("[bridge]\nconcurency = 5", ["bridge.concurency: unknown key"]),
        ('[bridge]\nconcurrency = "many"\n[queues.Q]\npriority = 101', ["bridge.concurrency: ", "queues.Q.priority: "]),
        ('[queues.Q]\nlease = "2m"\nmax_run_time = "1m"', ["queues.Q: lease must not be longer"]),
        ('[queues."A:B"]', ["queues."]),
        ("[bridge", ["is not TOML"]),
    ],
)
async def test_a_wrong_configuration_is_told_line_by_line(make_bridge, config, lines):
    bridge = make_bridge(NOBODY, config)
    assert await bridge.ended() == 2
    said = bridge.text().splitlines()
    assert len(said) == len(lines)
    assert all(expected in line for expected, line in zip(lines, said, strict=True))


@row(EXIT_2)
async def test_an_address_that_is_taken_is_told(make_bridge):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bridge = make_bridge(NOBODY, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        assert await bridge.ended() == 2
        assert "http.listen" in bridge.text()
        assert "Traceback" not in bridge.text()


@row(EXIT_5)
async def test_refused_credentials_end_it(make_server, make_bridge):
    server = make_server("authorization { user: bridge, password: right }")
    bridge = make_bridge(server.url, nats='user = "bridge"\npassword = "wrong-secret"')
    assert await bridge.ended() == 5
    assert bridge.logs("nats.closed")
    assert "wrong-secret" not in bridge.text()
    assert "Traceback" not in bridge.text()


@row(EXIT_5)
async def test_credentials_that_are_taken_away_end_it(make_server, make_bridge):
    users = "authorization {{ users: [ {{ user: bridge, password: {} }}, {{ user: t, password: t }} ] }}"
    server = make_server(users.format("right"))
    bridge = make_bridge(server.url, nats='user = "bridge"\npassword = "right"')
    await bridge.ready()
    server.stop()
    server.config = users.format("other")
    server.start()
    assert await bridge.ended(40) == 5
    assert bridge.logs("nats.closed")


@row("`/healthz` is 200 while the loop turns, server or not")
@row("`/readyz` is 200 when connected with every served queue bound, else 503, with what is missing")
@row("Connection: starts before the server does")
async def test_probes_before_during_and_after_the_server(own_server, make_bridge, kind):
    own_server.stop()
    bridge = make_bridge(own_server.url, "[queues.Q]")
    await bridge.log("http.listening")
    assert bridge.probe("/healthz")[0] == 200
    status, body = bridge.probe("/readyz")
    assert status == 503
    assert body["ready"] is False
    assert "not connected to NATS" in body["missing"]
    own_server.start()
    await bridge.ready()
    status, body = bridge.probe("/readyz")
    assert (status, body["ready"], body["missing"], body["queues"]) == (200, True, [], {"Q": True})
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
    own_server.stop()
    await bridge.log("nats.disconnected")
    await until(lambda: bridge.probe("/readyz")[0] == 503)
    assert bridge.probe("/healthz")[0] == 200
    assert bridge.metric("ajc_bridge_connected") == 0
    own_server.start()
    await bridge.ready()
    assert bridge.metric("ajc_bridge_reconnects_total") >= 1


@row("`http.listen`: `off` allowed, port 0 allowed; the log line `action=http.listening` has the `url`")
async def test_http_can_be_off(own_server, make_bridge, kind):
    bridge = make_bridge(own_server.url, "[queues.Q]", listen="off")
    await bridge.log("queue.bound", queue="Q")
    assert bridge.logs("http.listening") == []
    bridge.signal(SIGTERM)
    assert await bridge.ended() == 0


@row("`http.listen`: `off` allowed, port 0 allowed; the log line `action=http.listening` has the `url`")
async def test_what_is_not_there_is_404_and_json_where_it_is(site):
    assert site.bridge.http.startswith("http://127.0.0.1:")
    assert site.bridge.probe("/healthz")[0] == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(site.bridge.http + "/nothing", timeout=5)
    assert refused.value.code == 404


@row("Environment: `AJC_<SECTION>__<KEY>`; an unknown `AJC_` variable is a warning")
async def test_the_environment_counts(own_server, make_bridge):
    env = {"AJC_NATS__URL": own_server.url, "AJC_BRIDGE__CONCURRENCY": "7", "AJC_BRIDGE__CONCURENCY": "8"}
    bridge = make_bridge("", "[queues.Q]", env=env)
    line = await bridge.log("bridge.started")
    assert line["concurrency"] == 7
    await bridge.ready()
    assert "warning: AJC_BRIDGE__CONCURENCY: no such setting" in bridge.text()
    assert json.dumps(bridge.logs("nats.connected")[0]).count(own_server.url) == 1


async def test_a_flood_of_signals_for_reload_harms_nothing(own_server, make_bridge, kind):
    bridge = await make_bridge(own_server.url, "[queues.Q]").ready()
    for _ in range(200):
        bridge.signal(SIGHUP)
    await bridge.log("config.applied")
    async with world_of(own_server.url, bridge) as world:
        await world.serve(kind, [done()])
        await world.settled(await world.run(kind, queue="Q"), "complete")
    bridge.signal(signal.SIGTERM)
    assert await bridge.ended() == 0


async def test_who_cannot_connect_says_to_where_and_no_secret(make_bridge):
    bridge = make_bridge("nats://me:secret@127.0.0.1:1", level="info")
    line = await bridge.log("nats.connect_failed")
    assert line["server"] == "nats://127.0.0.1:1"
    assert "secret" not in str(bridge.logs("nats.connect_failed"))


HANGUP_FIRST = """
import signal
from ajc_bridge import __main__ as program
from ajc_bridge.cli import app
go_on = app.run_command_line
def hang_up():
    signal.raise_signal(signal.SIGHUP)
    go_on()
app.run_command_line = hang_up
program.main()
"""


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", HANGUP_FIRST, *COMMAND[3:]],
        ["sh", "-c", 'exec "$@" 0<&-', "sh", *COMMAND],
    ],
    ids=["a reload before it has read its arguments", "a closed stdin"],
)
async def test_what_is_nothing_to_it(own_server, tmp_path, command):
    file = tmp_path / "bridge.toml"
    file.write_text(f'[nats]\nurl = "{own_server.url}"\n[http]\nlisten = "off"\n[log]\nformat = "json"\n[queues.Q]\n')
    log = tmp_path / "bridge.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, str(file)], stdout=output, stderr=output, cwd=tmp_path)
    try:
        await until(lambda: b"queue is served" in log.read_bytes())
        process.send_signal(SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
