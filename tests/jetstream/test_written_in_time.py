"""What a chunk of the socket has woken is written before the next chunk is read."""

from __future__ import annotations

import asyncio
from typing import Any

from ajc.fast_client import FastClient


class Socket:
    """A connected socket, as nats-py's transport wraps one: notes what is written to it."""

    def __init__(self) -> None:
        self._io_reader = asyncio.StreamReader()
        self._io_writer = None
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


async def test_what_it_has_woken_is_written_in_the_same_turn() -> None:
    client, socket = FastClient(), Socket()
    client._status = FastClient.CONNECTED
    client._transport = socket
    client._max_payload = 1 << 20
    woken: list[asyncio.Future[bytes]] = [asyncio.get_running_loop().create_future() for _ in range(3)]
    waiting = iter(woken)

    def hand_over(_subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        next(waiting).set_result(body)

    client.raw_callbacks[b"1"] = hand_over

    async def answer(future: asyncio.Future[bytes]) -> None:
        client.send(b"PUB answer 1\r\n%b\r\n" % await future)

    answering: list[asyncio.Task[Any]] = [asyncio.create_task(answer(future)) for future in woken]
    await asyncio.sleep(0)  # each waits by now
    client._feed_at_once()
    socket._io_reader.feed_data(b"MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nMSG a 1 1\r\n3\r\n")
    assert not socket.written
    await asyncio.sleep(0)  # one turn of the loop, in which those who were woken send
    assert socket.written == [b"PUB answer 1\r\n1\r\nPUB answer 1\r\n2\r\nPUB answer 1\r\n3\r\n"]
    await asyncio.gather(*answering)
    client.send(b"PUB later 0\r\n\r\n")
    await asyncio.sleep(0)
    assert socket.written[1:] == [b"PUB later 0\r\n\r\n"]
