"""The stream of the log lines: no reader holds the writer up, whatever kind of file stderr is."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ajc_bridge import happenings as happened
from ajc_bridge.journal import log_stream
from ajc_bridge.journal.journal import Journal
from ajc_bridge.journal.log_stream import LogStream
from ajc_bridge.journal.logs import Logs

LINE = "x" * 99 + "\n"


def pipe_ends() -> tuple[int, int]:
    return os.pipe()


def socket_ends() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


def terminal_ends() -> tuple[int, int]:
    reading, writing = pty.openpty()
    return reading, writing


@pytest.fixture(params=[pipe_ends, socket_ends, terminal_ends])
def ends(request) -> Iterator[tuple[int, int]]:
    reading, writing = request.param()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def fill(stream: LogStream) -> None:
    """Write until the reader's side is full, and stays so (a terminal moves what it has in steps)."""
    for _ in range(100_000):
        stream.write(LINE)
        if stream.dropped and not stream.finish(0.05) and stream.waiting:
            return
    raise AssertionError("nothing ever waited")


def read_until(descriptor: int, end: Callable[[bytes], bool]) -> bytes:
    found = b""
    while not end(found):
        assert select.select([descriptor], [], [], 10)[0], f"nothing more came after {len(found)} bytes"
        found += os.read(descriptor, 65_536)
    return found.replace(b"\r\n", b"\n")  # as a terminal has it


def test_nobody_is_held_up_and_what_was_taken_comes_whole_and_in_its_turn(ends):
    reading, writing = ends
    stream = LogStream(writing, most=10_000)
    began = time.monotonic()
    for number in range(20_000):
        stream.write(f"{number:0100}\n")
    assert time.monotonic() - began < 5
    assert stream.waiting
    assert 0 < stream.dropped < 20_000
    came = 20_000 - stream.dropped
    lines = read_until(reading, lambda found: found.count(b"\n") == came).splitlines()
    taken = [int(line) for line in lines]
    assert taken == sorted(set(taken))
    # a terminal moves what it has in steps, so there may be room again for later ones
    assert os.isatty(writing) or taken == list(range(came))
    stream.finish(5)
    assert not stream.waiting
    stream.write("last\n")
    assert read_until(reading, lambda found: found.endswith(b"\n")) == b"last\n"


def test_a_line_that_is_longer_than_the_pipe_comes_whole():
    reading, writing = os.pipe()
    stream = LogStream(writing)
    stream.write("y" * 300_000 + "\n")
    stream.write("then\n")
    found = read_until(reading, lambda found: found.endswith(b"then\n"))
    assert found == b"y" * 300_000 + b"\nthen\n"
    assert stream.dropped == 0


def test_the_descriptor_itself_goes_on_waiting_for_those_who_share_it(ends):
    _, writing = ends
    LogStream(writing)
    assert os.get_blocking(writing)


def test_a_line_is_written_when_it_comes_while_the_reader_keeps_up(ends, tmp_path):
    reading, writing = ends
    LogStream(writing).write("one\n")
    assert select.select([reading], [], [], 0)[0]
    with (tmp_path / "log").open("wb", buffering=0) as file:
        LogStream(file.fileno()).write("one\n")
        assert (tmp_path / "log").read_bytes() == b"one\n"


def test_finish_waits_for_a_reader_but_not_for_ever(ends):
    reading, writing = ends
    stream = LogStream(writing, most=10_000)
    fill(stream)
    began = time.monotonic()
    stream.finish(0.2)
    assert 0.15 < time.monotonic() - began < 5
    assert stream.waiting
    reader = threading.Timer(0.2, read_until, (reading, lambda _: not stream.waiting))
    reader.start()
    stream.finish(10)
    assert not stream.waiting
    stream.write("the end\n")  # should the reader still wait for something to read
    reader.join(10)


@pytest.mark.parametrize("made", [pipe_ends, socket_ends])
def test_a_reader_that_has_gone_is_no_fault(made):
    reading, writing = made()
    stream = LogStream(writing)
    os.close(reading)
    stream.write(LINE)
    assert stream.dropped == 1
    assert LogStream(writing).write(LINE) == len(LINE)  # made when it had gone already
    os.close(writing)


def test_a_full_disk_is_no_fault():
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        stream = LogStream(full.fileno())
        stream.write(LINE)
    assert stream.dropped == 1


def test_without_a_descriptor_of_its_own_it_writes_what_is_sure_to_be_taken(monkeypatch):
    def refuse(*_: object) -> int:
        raise PermissionError

    reading, writing = os.pipe()
    monkeypatch.setattr(log_stream.os, "open", refuse)
    stream = LogStream(writing, most=20_000)
    monkeypatch.undo()
    fill(stream)
    read_until(reading, lambda _: not stream.waiting)
    stream.write("z" * 10_000 + "\n")
    read_until(reading, lambda found: found.endswith(b"z\n"))
    assert os.get_blocking(writing)


def test_lines_that_were_left_out_are_told_once_the_reader_is_back():
    reading, writing = os.pipe()
    stream = LogStream(writing, most=1_000)
    journal = Journal([Logs("info", "json", stream=stream)])
    while not stream.dropped:
        journal.note(happened.Drained(0))
    journal.note(happened.Drained(1))
    lost = stream.dropped
    reader = io.BytesIO()
    while stream.waiting:
        reader.write(os.read(reading, 65_536))
    journal.note(happened.Drained(2))
    reader.write(os.read(reading, 65_536))
    told = [json.loads(line) for line in reader.getvalue().splitlines()]
    assert [(line["action"], line.get("lines"), line.get("left")) for line in told[-2:]] == [
        ("log.lines_dropped", lost, None),
        ("bridge.drained", None, 2),
    ]
    assert {line["left"] for line in told[:-2]} == {0}


def test_an_object_that_is_collected_while_a_line_is_written_may_log():
    """Its line comes behind the other one: no lock is waited for in the thread that has it."""
    reading, writing = os.pipe()
    stream = LogStream(writing)
    logs = Logs("info", "json", stream=stream)
    send = stream._send

    class Collected:
        def __del__(self) -> None:
            logs.say("error", "amid", "from an object that is no more")

    def send_amid_a_collection(line: bytes) -> int:
        stream._send = send
        Collected()  # nobody has it: it is collected at once
        return send(line)

    stream._send = send_amid_a_collection
    writer = threading.Thread(target=logs.say, args=("info", "first", "from the work"), daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive(), "the thread waits for itself"
    told = [json.loads(line)["action"] for line in os.read(reading, 65_536).splitlines()]
    assert told == ["first", "amid"]


def test_who_holds_a_lock_of_its_own_does_not_wait_for_the_thread_that_follows():
    reading, writing = os.pipe()
    stream = LogStream(writing)
    with stream._lock:  # as the thread has it while it writes
        stream.write("meanwhile\n")
    stream.write("then\n")
    assert os.read(reading, 65_536) == b"meanwhile\nthen\n"
