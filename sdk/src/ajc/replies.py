"""What goes back: what a handler's result or exception says on the wire."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from ajc.errors import Busy, HandlerSignal, InvalidValue, Terminate
from ajc.exchange import clean_text, reply_headers
from ajc.json_value import encode_value
from ajc.unfit import Unfit

ErrorsTold = Literal["message", "type"]
"""How much of an exception goes out in AJ-Error: its type and its text, or its type alone."""
ERRORS_TOLD: Final = ("message", "type")
Word = Literal["success", "terminate", "busy", "retry", "error"]
_SHORT: Final = 120


class Reply(msgspec.Struct):
    """One reply: `headers` as a raw block (None for a result), `text` and `after_ms` as it says them.

    `word` and `error` are for logs and counters.
    """

    body: bytes = b""
    headers: bytes | None = None
    word: Word = "success"
    text: str = ""
    after_ms: int | None = None
    error: BaseException | None = None


def reply_to_result(result: Any) -> Reply:
    """Return the reply with this result: bytes as they are, anything else as JSON."""
    if result.__class__ is bytes:
        return Reply(result)
    try:
        body = bytes(result) if isinstance(result, (bytes, bytearray, memoryview)) else encode_value(result, "result")
    except InvalidValue as error:
        return reply_to_exception(Unfit(str(error)))
    return Reply(body)


def fitting(reply: Reply, max_payload: int) -> Reply:
    """Return a reply that the server takes: a result that is too large is final, a text that is, is cut short."""
    if reply.headers is None:
        size = len(reply.body)
        return (
            reply if size <= max_payload else reply_to_exception(Unfit(f"result of {size} bytes exceeds {max_payload}"))
        )
    if len(reply.headers) <= max_payload:
        return reply
    return msgspec.structs.replace(reply, headers=_headers(reply.word, reply.text[:_SHORT], reply.after_ms))


def reply_to_exception(error: BaseException, errors: ErrorsTold = "message") -> Reply:
    """Return the reply that says this: `Terminate`, `Retry`, `Busy`; else failed, with its type and text.

    `errors` says how much of any other exception goes out. The texts of the three are their author's own words.
    """
    word: Word = "error"
    after_ms = None
    if isinstance(error, HandlerSignal):
        word = "terminate" if isinstance(error, Terminate) else "busy" if isinstance(error, Busy) else "retry"
        text, after_ms = error.text, error.after_ms
    else:
        text = _told(error, errors)
    return Reply(b"", _headers(word, text, after_ms), word, clean_text(text), after_ms, error)


def _headers(word: Word, text: str, after_ms: int | None) -> bytes | None:
    if word == "terminate":
        return reply_headers(terminate=text)
    if word == "busy":
        return reply_headers(busy=text, retry_after_ms=after_ms)
    return reply_headers(error=text, retry_after_ms=after_ms)


def _told(error: BaseException, errors: ErrorsTold) -> str:
    """Return what of an exception goes out; never its trace."""
    name = type(error).__qualname__
    if errors == "type":
        return name
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (an exception whose text raises)
        text = ""
    return f"{name}: {text}" if text else name
