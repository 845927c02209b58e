"""A responder whose handler has a name that is none."""

from __future__ import annotations

import ajc

app = ajc.Responder()


@app.handler("email new")
async def email_new(attempt: ajc.Attempt) -> None: ...
