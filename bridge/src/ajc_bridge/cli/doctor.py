"""`ajc-bridge doctor`: what is wrong, and the mend."""

from __future__ import annotations

import sys

import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.exits import FAILED
from ajc_bridge.cli.options import Context, Json, Server
from ajc_bridge.cli.output import plain, print_json


def doctor(server: Server = None, context: Context = None, as_json: Json = False) -> None:
    """Look at the server, the streams, the queues and the responders; say what is wrong and how to mend it.

    \b
    Examples:
      ajc-bridge doctor
      ajc-bridge doctor --context WQ --json

    Nothing is changed. Exit code 1 when something is wrong. Run it where the bridge's `ajc-bridge.toml` is: backoff
    policies of your own are known from there.
    """
    from ajc_bridge.cli.examination import examine  # noqa: PLC0415 - keeps --help quick

    findings = with_client(server, context, lambda client: examine(client.connection))
    wrong = any(finding.verdict == "wrong" for finding in findings)
    if as_json:
        print_json({"ok": not wrong, "findings": findings})
    else:
        for finding in findings:
            sys.stdout.write(f"{finding.verdict:<6} {finding.subject}: {plain(finding.text)}\n")
            if finding.mend:
                sys.stdout.write(f"       -> {finding.mend}\n")
    if wrong:
        raise typer.Exit(FAILED)
