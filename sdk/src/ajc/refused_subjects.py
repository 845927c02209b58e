"""What the server does not let this user publish: it says so beside all requests, by the subject alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

# nats-py hands the server's words on in lower case
_refused: Final = re.compile(r'permissions violation for publish to "(.+)"', re.IGNORECASE).search


class RefusedSubjects:
    """Tells who sends requests which subjects were refused: once for each message, in lower case."""

    def __init__(self) -> None:
        self._told: list[Callable[[str], None]] = []

    def tell(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with each subject from now on."""
        self._told.append(listener)

    def tell_no_more(self, listener: Callable[[str], None]) -> None:
        """End what `tell` began, if it did."""
        if listener in self._told:
            self._told.remove(listener)

    def read(self, error: BaseException | None) -> None:
        """Take an error of the connection, which may be a refusal."""
        found = _refused(str(error))
        if found:
            subject = found[1].lower()
            for listener in list(self._told):
                listener(subject)
