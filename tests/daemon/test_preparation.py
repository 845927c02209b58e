"""Before the first task and after the last one: queues that cannot be served, care for many of them, every way out."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTERM
from typing import Any

import pytest
from bridge_process import until
from msgspec.structs import replace
from outside import World, world_of
from scripted_responder import done

from ajc.connection import Connection, Message
from ajc.errors import NoResponders, NotFound, Unavailable
from ajc.instant import SECOND, Instant
from ajc.queue import Queue
from ajc.topology import apply_queue, delete_queue, ensure_queue, read_queue
from ajc.work_item import WorkItem
from ajc_bridge.clock import SystemClock
from ajc_bridge.config import load_config
from ajc_bridge.decision.policy import NAMED_BACKOFFS, QueuePolicy
from ajc_bridge.happenings import ClocksApart
from ajc_bridge.jetstream.census import JetStreamCensus
from ajc_bridge.jetstream.dead_letters import JetStreamDeadLetters
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.exchange import NatsExchange
from ajc_bridge.jetstream.remains import Remains
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.journal.journal import Journal
from ajc_bridge.pipeline.cancellations import Cancellations
from ajc_bridge.pipeline.dispatch import ExecPolicy
from ajc_bridge.pipeline.fair_share import FairShare
from ajc_bridge.pipeline.room import Room
from ajc_bridge.ports import Ports
from ajc_bridge.served_queue import ServedQueue
from ajc_bridge.serving import Serving

row = pytest.mark.row
EXIT_0 = "Exit code 0: drained (what was still running when the limit passed goes back uncounted)"
EXIT_2 = "Exit code 2: configuration; one line each on stderr, with the key's path"
EXIT_5 = "Exit code 5: connection refused for good or closed for good"
QUICK_LOOKS = "import ajc_bridge.serving\najc_bridge.serving.LOOK_SECONDS = 0.3"
BREAKABLE_RESCUE = """
import asyncio, pathlib
from ajc_bridge.pipeline.rescue import ExhaustedItems

async def run(self):
    while not pathlib.Path("break").exists():
        await asyncio.sleep(0.05)
    raise RuntimeError("broken by the test")

ExhaustedItems.run = run
"""


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """The environment of a bridge that runs this code first."""

    def write(code: str) -> dict[str, str]:
        (tmp_path / "altered").mkdir()
        (tmp_path / "altered" / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": str(tmp_path / "altered")}

    return write


async def spoil(world: World, queue: str) -> None:
    """Put a stream in the queue's place that can be none."""
    await delete_queue(world.connection, queue)
    config = {"name": f"CHORIA_AJ_Q_{queue}", "subjects": [f"CHORIA_AJ.Q.{queue}.>"], "retention": "limits"}
    await world.connection.api(f"STREAM.CREATE.CHORIA_AJ_Q_{queue}", config)


async def until_consumer(world: World, queue: str) -> None:
    async def there() -> bool:
        try:
            return bool(await world.consumer(queue))
        except NotFound:
            return False

    await world.until_async(there, f"{queue} has no consumer")


# --- the way in -----------------------------------------------------------------------------------------------------


@row(EXIT_2)
async def test_a_queue_that_cannot_be_served_costs_no_task_of_the_others_a_try(own_server, make_bridge, kind):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("GOOD"))
        await ensure_queue(world.connection, Queue("ZBAD", storage="file"))
        responder = await world.serve(kind, lambda _: None)
        task = await world.run(kind, queue="GOOD")
        others = "".join(f"[queues.M{number}]\n" for number in range(8))  # time enough for a lane to begin
        bridge = make_bridge(own_server.url, f'[queues.GOOD]\n{others}[queues.ZBAD]\nstorage = "memory"')
        assert await bridge.ended() == 2
        assert "ZBAD" in bridge.logs("bridge.refused")[0]["event"]
        found = await world.load(task.id)
        assert (found.state, found.tries) == ("new", 0)
        assert responder.requests == []


async def test_a_server_without_jetstream_is_told_once_with_the_mend(make_server, make_bridge):
    account = "accounts { A { JS_IS, users: [{user: a, password: b}] } }\nno_auth_user: a"
    server = make_server(account.replace("JS_IS,", ""))
    bridge = make_bridge(server.url)
    line = await bridge.log("bridge.not_prepared", where="JetStream")
    assert line["level"] == "warn"
    assert "enable it: `jetstream {}`" in line["text"]
    await until(lambda: "enable it" in bridge.probe("/readyz")[1]["missing"][0])
    server.stop()  # once it is there, the bridge goes on by itself
    server.config = account.replace("JS_IS", "jetstream: enabled")
    server.start()
    await bridge.ready()
    assert len(bridge.logs("bridge.not_prepared", where="JetStream")) == 1
    assert not bridge.logs("bridge.trouble", where="prepare")


@row(EXIT_0)
async def test_a_queue_that_the_server_refuses_keeps_no_other_from_being_served(own_server, make_bridge, kind):
    config = '[queues.A]\n[queues.B]\nreplicas = 3\n[queues.C]\n[bridge]\ndrain = "500ms"'
    bridge = make_bridge(own_server.url, config)
    async with world_of(own_server.url, bridge) as world:
        line = await bridge.log("queue.lost", queue="B")
        assert "replicas" in line["text"]
        for queue in ("A", "C"):
            await bridge.log("queue.bound", queue=queue)
        status, body = bridge.probe("/readyz")
        assert (status, body["queues"]) == (503, {"A": True, "B": False, "C": True})
        assert "replicas" in body["missing"][0]
        responder = await world.serve(kind, lambda _: None)
        task = await world.run(kind, queue="A")
        await world.asked(responder)
        bridge.signal(SIGTERM)
        assert await bridge.ended() == 0
        assert bridge.logs("bridge.drained", left=1)
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "interrupted")


@row(EXIT_2)
async def test_a_store_that_keeps_everything_is_told_where_a_time_is_asked_for(own_server, make_bridge):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q"))
        bridge = make_bridge(own_server.url, '[bridge]\ncreate = false\n[queues.Q]\n[retention]\ncomplete = "1h"')
        assert await bridge.ended() == 2
        assert "allow_msg_ttl" in bridge.logs("bridge.refused")[0]["event"]


class LosingAdvisories:
    """A connection that breaks just when the second inbox of a queue is opened."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.opened: list[tuple[str, Any]] = []

    async def subscribe_raw(self, subject: str, callback: Any) -> Any:
        self.opened.append((subject, weakref.ref(callback.__self__)))
        return await self._connection.subscribe_raw(subject, callback)

    async def subscribe(self, _subject: str, _callback: Callable[[Message], None]) -> Any:
        raise Unavailable("the connection broke")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def ports_of(connection: Connection) -> tuple[JetStreamTaskStore, Ports]:
    store, journal = JetStreamTaskStore(connection, max_message=-1), Journal([])
    ports = Ports(
        store=store,
        delay=JetStreamDelayQueue(connection),
        letters=JetStreamDeadLetters(connection),
        exchange=NatsExchange(connection, journal),
        journal=journal,
        clock=SystemClock(),
    )
    return store, ports


async def test_a_queue_that_is_half_opened_is_closed_again(own_server):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q"))
        info = await read_queue(world.connection, "Q")
        breaking: Any = LosingAdvisories(world.connection)
        store, ports = ports_of(world.connection)
        served: ServedQueue | None = ServedQueue(
            breaking,
            store,
            ports,
            info,
            policy=QueuePolicy("Q", info.lease_ns, info.max_run_time_ns, 0, NAMED_BACKOFFS["default"]),
            exec_policy=ExecPolicy("ajc.exec", catchall=False),
            share=FairShare(10, ports.journal),
            room=Room(),
            cancellations=Cancellations(ports),
        )
        assert served is not None
        with pytest.raises(Unavailable):
            await served.open()
        [(inbox, queue)] = breaking.opened
        with pytest.raises(NoResponders):
            await world.connection.request(inbox.replace("*", "1"), timeout=5)
        served = None
        await asyncio.sleep(0)
        gc.collect()
        assert queue() is None  # no timer holds it


# --- while it serves ------------------------------------------------------------------------------------------------


@row("Queues: a field that the file sets is applied at start and on SIGHUP and logged with before and after")
async def test_the_look_undoes_nobody_elses_settings(own_server, make_bridge, altered):
    config = "[queues.A]\npriority = 30\nmax_tries = 10\n[queues.Z]\n[dlq]\nmax_entries = 5"
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("A"))
        consumer = (await world.consumer("A"))["config"] | {"max_deliver": 5}
        request = {"stream_name": "CHORIA_AJ_Q_A", "config": consumer}
        await world.connection.api("CONSUMER.DURABLE.CREATE.CHORIA_AJ_Q_A.WORKERS", request)
        bridge = await make_bridge(own_server.url, config, env=altered(QUICK_LOOKS)).ready()
        await apply_queue(world.connection, Queue("A", priority=50))
        letters = (await world.info("CHORIA_AJ_DLQ"))["config"]
        await world.connection.api("STREAM.UPDATE.CHORIA_AJ_DLQ", letters | {"max_msgs": 7})
        for _ in range(2):  # the look comes to Z after A
            await world.connection.api("CONSUMER.DELETE.CHORIA_AJ_Q_Z.WORKERS")
            await until_consumer(world, "Z")
        assert (await read_queue(world.connection, "A")).priority == 50
        assert (await world.info("CHORIA_AJ_DLQ"))["config"]["max_msgs"] == 7
        bridge.signal(SIGHUP)
        await bridge.log("config.applied")
        assert (await read_queue(world.connection, "A")).priority == 30
        assert (await world.info("CHORIA_AJ_DLQ"))["config"]["max_msgs"] == 5
        # what the server's own cap makes of it does not count as a change to be made
        assert len(bridge.logs("queue.configured", queue="A", field="max_tries")) == 1
        # what is made again is made as the file says
        await world.connection.api("STREAM.DELETE.CHORIA_AJ_DLQ")
        await bridge.log("queue.configured", field="CHORIA_AJ_DLQ")
        assert (await world.info("CHORIA_AJ_DLQ"))["config"]["max_msgs"] == 5


@pytest.mark.parametrize("config", ["", "[queues.A]\n[queues.B]\n"])
async def test_the_fault_of_one_queue_is_no_reason_to_neglect_the_others(
    own_server, make_bridge, altered, kind, config
):
    async with world_of(own_server.url) as world:
        for queue in ("A", "B"):
            await ensure_queue(world.connection, Queue(queue))
        bridge = await make_bridge(own_server.url, config, env=altered(QUICK_LOOKS)).ready()
        await world.serve(kind, [done()])
        bridge.signal(SIGSTOP)
        await spoil(world, "A")
        await world.connection.api("CONSUMER.DELETE.CHORIA_AJ_Q_B.WORKERS")
        bridge.signal(SIGCONT)
        if config:
            await bridge.log("bridge.trouble", where="queue A")
            await until_consumer(world, "B")
            await world.settled(await world.run(kind, queue="B"), "complete")
        else:
            await ensure_queue(world.connection, Queue("NEW"))
            await bridge.log("queue.bound", queue="NEW")
            await world.settled(await world.run(kind, queue="NEW"), "complete")
            assert any("retention" in line for line in bridge.probe("/readyz")[1]["missing"])
        assert bridge.running


async def test_two_that_find_a_queue_gone_let_go_of_it_once(own_server):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q"))
        store, ports = ports_of(world.connection)
        config = load_config("/dev/null", {"bridge": {"create": False}}, {})
        serving = Serving(world.connection, store, ports, config, lambda _: None)
        await serving.bind_all()
        assert serving.begun
        await delete_queue(world.connection, "Q")
        await asyncio.gather(serving.apply(config), serving.apply(config))
        assert await serving.drain(5) == 0


class Ahead(SystemClock):
    """A machine's clock that is 400 s ahead."""

    def now(self) -> Instant:
        return super().now().plus(400 * SECOND)


class Notes(list[Any]):
    def note(self, detail: Any) -> None:
        self.append(detail)


@pytest.mark.parametrize(("clock", "told"), [(Ahead, 1), (SystemClock, 0)])
async def test_a_clock_far_from_the_servers_is_told(own_server, clock, told):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q"))
        store, ports = ports_of(world.connection)
        notes = Notes()
        ports = replace(ports, clock=clock(), journal=notes)
        serving = Serving(world.connection, store, ports, load_config("/dev/null", {}, {}), lambda _: None)
        await serving._look_at_stores()
        apart = [detail for detail in notes if isinstance(detail, ClocksApart)]
        assert len(apart) == told
        assert all(395 * SECOND < detail.ahead_ns < 405 * SECOND for detail in apart)


async def test_a_schedule_counts_until_it_is_late_by_the_servers_clock(own_server, monkeypatch):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("Q"))
        delay = JetStreamDelayQueue(world.connection)
        store, _ = ports_of(world.connection)
        queue = JetStreamCensus(world.connection, store, "Q")
        await delay.schedule("Q", "one", Instant.now().plus(150 * SECOND), WorkItem("one"))
        ahead = Instant.now().plus(400 * SECOND)
        monkeypatch.setattr(Instant, "now", classmethod(lambda _: ahead))
        assert await queue.has_item("one")
        assert await Remains(world.connection, "Q").clear() == 0


# --- the way out ----------------------------------------------------------------------------------------------------


@row(EXIT_0)
async def test_what_a_vanished_queue_had_given_out_is_part_of_the_drain(own_server, make_bridge, altered, kind):
    async with world_of(own_server.url) as world:
        await ensure_queue(world.connection, Queue("GONE"))
        bridge = make_bridge(own_server.url, '[bridge]\ndrain = "500ms"', env=altered(QUICK_LOOKS))
        await bridge.ready()
        responder = await world.serve(kind, lambda _: None)
        task = await world.run(kind, queue="GONE")
        await world.asked(responder)
        await delete_queue(world.connection, "GONE")
        await bridge.log("queue.lost", queue="GONE")
        await until(lambda: bridge.probe("/readyz")[0] == 200)
        bridge.signal(SIGTERM)
        await bridge.log("bridge.draining", running=1)
        assert await bridge.ended() == 0
        assert bridge.logs("bridge.drained", left=1)
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "interrupted")


async def test_a_fault_ends_it_by_a_drain(own_server, make_bridge, altered, kind):
    bridge = make_bridge(own_server.url, '[queues.Q]\n[bridge]\ndrain = "500ms"', env=altered(BREAKABLE_RESCUE))
    await bridge.ready()
    async with world_of(own_server.url) as world:
        responder = await world.serve(kind, lambda _: None)
        task = await world.run(kind, queue="Q")
        await world.asked(responder)
        (bridge.file.parent / "break").touch()  # the rescue of what no delivery brings back dies
        assert await bridge.ended() == 1
        assert "broken by the test" in bridge.logs("bridge.trouble", where="daemon")[0]["text"]
        assert bridge.logs("bridge.drained", left=1)
        found = await world.load(task.id)
        assert (found.state, found.tries, found.last_err) == ("new", 0, "interrupted")


@row(EXIT_5)
async def test_a_connection_that_is_closed_for_good_ends_a_drain(make_server, make_bridge, kind):
    users = "authorization {{ users: [ {{ user: bridge, password: {} }}, {{ user: t, password: t }} ] }}"
    server = make_server(users.format("right"))
    config = '[queues.Q]\n[bridge]\ndrain = "10m"'
    bridge = await make_bridge(server.url, config, nats='user = "bridge"\npassword = "right"').ready()
    async with world_of(server.url.replace("://", "://t:t@")) as world:
        responder = await world.serve(kind, lambda _: None)
        await world.run(kind, queue="Q")
        await world.asked(responder)
        bridge.signal(SIGTERM)
        await bridge.log("bridge.draining", running=1)
        server.stop()
        server.config = users.format("other")
        server.start()
        assert await bridge.ended(40) == 5
        assert bridge.logs("bridge.drained") == []
