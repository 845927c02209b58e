"""JetStream's error codes as this package's errors."""

from __future__ import annotations

from typing import Final

from ajc.errors import AjcError, Conflict, NotFound, QueueFull, StoreError
from ajc.subjects import queue_of_stream

NO_MESSAGE: Final = 10037
NO_SEQUENCE: Final = 10043
"""The answer to a delete of a message that is gone."""
STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014
MAXIMUM_MESSAGES: Final = 10077
MESSAGE_TOO_LARGE: Final = 10054
HEADERS_TOO_LARGE: Final = 10097
TTL_DISABLED: Final = 10166
"""A message with a time to live, for a stream without `allow_msg_ttl`."""
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""The second comes while another write to the subject is under way."""

_MISSING: Final = {
    NO_MESSAGE: "message",
    NO_SEQUENCE: "message",
    STREAM_NOT_FOUND: "stream",
    CONSUMER_NOT_FOUND: "consumer",
}


def store_error(code: int, text: str, subject: str) -> AjcError:
    """Return the error for JetStream's `err_code`; `subject` is where the request went."""
    if code in _MISSING:
        return NotFound(_MISSING[code], subject, code=code)
    if code in WRONG_LAST_SEQUENCE:
        return Conflict(subject, code=code)
    if code == MAXIMUM_MESSAGES and subject.startswith("CHORIA_AJ.Q."):
        return QueueFull(_queue_of_item(subject), code=code)
    return StoreError(code, text, subject=subject)


def _queue_of_item(subject: str) -> str:
    tokens = subject.split(".")
    return tokens[2] if subject.startswith("CHORIA_AJ.Q.") and len(tokens) > 2 else queue_of_stream(subject) or subject  # noqa: PLR2004
