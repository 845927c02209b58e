"""Answers to requests, and what JetStream answers to a message that it stores."""

from __future__ import annotations

from typing import Final

import msgspec

from ajc.store_errors import STREAM_NOT_FOUND, store_error

STATUS: Final = b"NATS/1.0 "
"""How the header block of a status message starts."""
NO_RESPONDERS: Final = b"NATS/1.0 503"


class Answer(msgspec.Struct, gc=False):
    """The answer to a request; `headers` is the raw header block, None when there is none."""

    body: bytes
    headers: bytes | None = None


class PubAck(msgspec.Struct, frozen=True):
    """JetStream's word that a message is stored: the stream, its sequence there, and whether it was a duplicate."""

    stream: str
    seq: int
    duplicate: bool = False


class _ApiError(msgspec.Struct, frozen=True):
    code: int = 500
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _ApiError | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def read_pub_ack(message: Answer, subject: str) -> PubAck:
    """Read JetStream's answer to a publish into a stream; raises as `Connection.stored` says."""
    answer = _read_stored(message.body, message.headers, subject)
    return PubAck(answer.stream, answer.seq, answer.duplicate)


def read_sequence(body: bytes, headers: bytes | None) -> int:
    """Read no more of JetStream's answer than where the message is stored; raises as `Connection.stored` says."""
    if headers is None:  # as almost always: read here, since every save asks
        try:
            answer = _decode_answer(body)
        except msgspec.DecodeError:
            pass
        else:
            if answer.error is None:
                return answer.seq
    return _read_stored(body, headers, "the stream").seq


def read_duplicate(body: bytes, headers: bytes | None, subject: str = "the stream") -> bool:
    """Read no more of it than whether the message was stored before; raises likewise."""
    return _read_stored(body, headers, subject).duplicate


def _read_stored(body: bytes, headers: bytes | None, subject: str) -> _Answer:
    if headers is not None and headers.startswith(NO_RESPONDERS):
        raise store_error(STREAM_NOT_FOUND, "no stream takes this subject", subject)
    try:
        answer = _decode_answer(body)
    except msgspec.DecodeError:
        raise store_error(0, f"an answer that is no JetStream answer: {body[:100]!r}", subject) from None
    if answer.error is not None:
        raise store_error(answer.error.err_code, answer.error.description, subject)
    return answer
