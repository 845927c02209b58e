"""With `fast_client`: nats-py's parser, which reads messages itself in one pass and leaves every other line to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from ajc.transport import RawCallback

_CRLF: Final = b"\r\n"
_MSG: Final = b"MSG"
_HMSG: Final = b"HMSG"
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
        find = data.find
        position, end = 0, len(data)
        self._want = 0
        while position < end:
            start = find(_CRLF, position) + 2
            if start < 2:  # noqa: PLR2004  (not found)
                if end - position > _MAX_CONTROL_LINE:
                    raise ProtocolError
                break
            words = data[position:start].split()
            header = None
            try:
                if words[0] == _MSG:
                    if len(words) == _PLAIN_WORDS:
                        _, subject, sid, digits = words
                        reply = b""
                    else:
                        _, subject, sid, reply, digits = words
                    body_at, stop = start, start + int(digits)
                elif words[0] == _HMSG:
                    if len(words) == _HEADER_WORDS:
                        _, subject, sid, header_digits, digits = words
                        reply = b""
                    else:
                        _, subject, sid, reply, header_digits, digits = words
                    body_at, stop = start + int(header_digits), start + int(digits)
                    if body_at > start:
                        header = data[start:body_at]
                elif data[position:start].startswith((b"M", b"H")):
                    raise ProtocolError
                else:
                    self._foreign = start - position
                    return data[position:]
            except IndexError:  # an empty line
                self._foreign = start - position
                return data[position:]
            except ValueError:
                raise ProtocolError from None
            if not start <= body_at <= stop:
                raise ProtocolError
            if stop + 2 > end:
                self._want = stop + 2 - position
                break
            callback = callbacks.get(sid)
            if callback is None:
                self._foreign = stop + 2 - position
                return data[position:]
            position = stop + 2
            try:
                callback(subject, reply, data[body_at:stop], header)
            except Exception as error:  # noqa: BLE001  (else the connection would break, and the messages behind be lost)
                client.callback_failed(error)
        if position < end:
            self._rest += data[position:]
        return b""
