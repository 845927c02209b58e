"""How much of a request is read before it runs: the version of the protocol, and the time it has.

A request as the bridge writes it gives these two to a few searches; all else is read when somebody asks, which few
attempts ever do. Any other request is read in full.
"""

from __future__ import annotations

from typing import Final

from ajc.errors import Busy
from ajc.exchange import CONTENT_TYPE, PROTOCOL, ExecRequest
from ajc.headers import parse_headers

_AS_WRITTEN: Final = f"NATS/1.0\r\nAJ-Content-Type: {CONTENT_TYPE}\r\nAJ-Handler-Deadline: ".encode()
_PROTOCOL_LINE: Final = f"\r\nAJ-Protocol: {PROTOCOL}\r\n".encode()
_TIMEOUT: Final = b"\r\nAJ-Timeout-Ms: "
_WRITTEN: Final = len(_AS_WRITTEN)
_NAME: Final = len(_TIMEOUT)
_BETWEEN: Final = 60
"""Bytes at least from the end of the deadline's line to the time-out's."""
_LINES: Final = 6
"""Line ends from that of the deadline to the one before the time-out's."""
_LONGEST: Final = 12


def quick_timeout(headers: bytes | None) -> int:
    """Return the milliseconds of a request that the bridge wrote; -1 for any that must be read in full."""
    if headers is not None and headers.startswith(_AS_WRITTEN):
        line = headers.find(_PROTOCOL_LINE, _WRITTEN)
        if line > 0:
            begin = headers.find(_TIMEOUT, line + _BETWEEN)
            # with one line end more, one of them may end the headers before
            if begin > 0 and headers.count(b"\n", _WRITTEN, begin) == _LINES:
                begin += _NAME
                number = headers[begin : headers.find(b"\r\n", begin)]
                if number.isdigit() and len(number) <= _LONGEST:
                    return int(number)
    return -1


def read_request(headers: bytes | None, body: bytes) -> ExecRequest:
    """Read a request in full.

    Raises `MalformedRequest` as `ExecRequest.decode`, and `Busy` for a version of the protocol that is not known: the
    rest may mean anything then, and another responder may know it.
    """
    if headers is not None and b"aj-protocol" in headers.lower():
        protocol = parse_headers(headers).get("AJ-Protocol") or PROTOCOL
        if protocol != PROTOCOL:
            raise Busy(f"protocol {protocol} is not known here, only {PROTOCOL}")
    return ExecRequest.decode(headers, body)
