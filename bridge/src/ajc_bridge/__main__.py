"""`ajc-bridge`, also as `python -m ajc_bridge`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    if sys.argv[1:2] == ["run"]:
        # until the daemon listens for it, half a second from now: the file that it stands for is read behind this
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from ajc_bridge.cli.app import run_command_line  # noqa: PLC0415 - the child processes of `dev` import this module too
    from ajc_bridge.cli.output import guard_streams  # noqa: PLC0415 - likewise

    guard_streams()
    run_command_line()


if __name__ == "__main__":
    main()
