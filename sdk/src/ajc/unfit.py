"""What is no payload or no result: the SDK's own word to the bridge, where `Terminate` is a handler's."""

from __future__ import annotations

from ajc.errors import Terminate


class Unfit(Terminate):
    """Like `Terminate`, and told in the responder's log, since no handler has seen it coming."""
