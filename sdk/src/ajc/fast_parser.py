"""With `fast_client`: nats-py's parser, which reads messages itself in one pass and leaves every other line to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from ajc.transport import RawCallback

_CRLF: Final = b"\r\n"
_M: Final = ord("M")
_H: Final = ord("H")
_MAX_CONTROL_LINE: Final = 65_536
_PLAIN_WORDS: Final = 4
"""Words in the line of a message without headers and without a reply subject."""
_HEADER_WORDS: Final = 5
"""The same with headers."""


class Client(Protocol):
    """What the parser needs of its client."""

    raw_callbacks: dict[bytes, RawCallback]
    """By the subscription's id, as it comes."""
    callback_failed: Callable[[Exception], None]


class FastParser(Parser):
    """Hands messages to their `raw_callbacks`; all else goes the way of nats-py's parser."""

    def __init__(self, client: Client) -> None:
        self._rest = bytearray()
        self._want = 0  # bytes of the frame that _rest begins
        self._resets = 0
        self._foreign = 0  # bytes of nats-py's line or frame
        self.busy = False
        """nats-py works on a line, and what follows it has to wait."""
        super().__init__(client)

    def reset(self) -> None:
        """Forget a half-read frame: a new connection starts."""
        super().reset()
        self._rest = bytearray()
        self._want = 0
        self._resets += 1

    async def parse(self, data: bytes = b"") -> None:
        """Dispatch every whole frame and line in `data`; keep the rest for the next call."""
        resets = self._resets
        self.busy = True
        try:
            data = self.take(data)
            while data:
                self.buf = bytearray(data[: self._foreign])
                left = data[self._foreign :]
                await super().parse()
                if resets != self._resets:
                    return
                data = self.take(left)
        finally:
            self.busy = False

    def take(self, data: bytes) -> bytes:  # noqa: PLR0915  (one pass in one place: a call a message costs)
        """Dispatch whole frames until `data` ends or something is nats-py's; return the bytes from there on.

        They begin with one whole line or frame (of `_foreign` bytes). A part at the end is kept for the next call.
        Raises `ProtocolError`.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._want:
                return b""
            data = bytes(self._rest)
            self._rest.clear()
        client: Client = self.nc
        callbacks = client.raw_callbacks
        position, end = 0, len(data)
        self._want = 0
        while position < end:
            line_end = data.find(_CRLF, position)
            if line_end < 0:
                if end - position > _MAX_CONTROL_LINE:
                    raise ProtocolError
                break
            first = data[position]
            if first != _M and first != _H:  # noqa: PLR1714  (a tuple is slower, and this runs for every message)
                self._foreign = line_end + 2 - position
                return data[position:]
            words = data[position:line_end].split()
            try:
                if first == _M:
                    header_size = 0
                    if len(words) == _PLAIN_WORDS:
                        _, subject, sid, digits = words
                        reply = b""
                    else:
                        _, subject, sid, reply, digits = words
                else:
                    reply = words.pop(3) if len(words) > _HEADER_WORDS else b""
                    _, subject, sid, header_digits, digits = words
                    header_size = int(header_digits)
                size = int(digits)
            except ValueError:
                raise ProtocolError from None
            if not 0 <= header_size <= size:
                raise ProtocolError
            start = line_end + 2
            stop = start + size
            if stop + 2 > end:
                self._want = stop + 2 - position
                break
            callback = callbacks.get(sid)
            if callback is None:
                self._foreign = stop + 2 - position
                return data[position:]
            position = stop + 2
            if header_size:
                header = data[start : start + header_size]
                start += header_size
            else:
                header = None
            try:
                callback(subject, reply, data[start:stop], header)
            except Exception as error:  # noqa: BLE001  (else the connection would break, and the messages behind be lost)
                client.callback_failed(error)
        if position < end:
            self._rest += data[position:]
        return b""
