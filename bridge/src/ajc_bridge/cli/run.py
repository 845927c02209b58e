"""`ajc-bridge run`: the daemon."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ajc_bridge.cli.connecting import loop_runner, wrong_files
from ajc_bridge.cli.options import Context, Server

if TYPE_CHECKING:
    from ajc_bridge.config import Config


def run(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="configuration [default: ajc-bridge.toml, if there]"),
    ] = None,
    server: Server = None,
    context: Context = None,
    name: Annotated[str | None, typer.Option(help="name of this bridge")] = None,
    concurrency: Annotated[int | None, typer.Option(help="attempts at once")] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="probes and metrics; off for none")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warn, error")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="console, json")] = None,
) -> None:
    """Take tasks from queues and hand them to responders, until SIGTERM.

    \b
    Examples:
      ajc-bridge run
      ajc-bridge run --config /etc/ajc-bridge.toml --log-format json
      AJC_NATS__URL=nats://nats:4222 ajc-bridge run --concurrency 500

    SIGTERM drains, a second signal ends at once, SIGHUP reads the configuration again.
    Exit codes: 0 drained, 1 failed, 2 configuration, 5 connection refused or closed for good.
    """
    overrides = {
        "nats.url": server,
        "nats.context": context,
        "bridge.name": name,
        "bridge.concurrency": concurrency,
        "http.listen": listen,
        "log.level": log_level,
        "log.format": log_format,
    }
    sys.exit(run_daemon(config, overrides))


def run_daemon(path: Path | None, overrides: dict[str, Any]) -> int:
    """Run the daemon with this configuration; return its exit code. A wrong configuration is told, a line a fault."""
    from ajc_bridge import daemon  # noqa: PLC0415 - the daemon is heavy, and --help needs none of it
    from ajc_bridge.cli.exits import USAGE  # noqa: PLC0415
    from ajc_bridge.config import ConfigError, load_config  # noqa: PLC0415
    from ajc_bridge.config.load import DEFAULT_FILE  # noqa: PLC0415

    if sys.stderr is None:  # started without one: nothing that is opened later may take its place
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives

    # a file that was there is missed when it is gone: to go on by the defaults would be a change that nobody asked for
    kept = Path(DEFAULT_FILE) if path is None and Path(DEFAULT_FILE).exists() else path

    def reload() -> Config:
        with warnings.catch_warnings(action="ignore"):  # unknown variables were told at the start
            return load_config(kept, overrides)

    try:
        with warnings.catch_warnings(record=True, action="always") as unknown:
            config = load_config(path, overrides)
    except ConfigError as error:
        _tell(error.lines)
        return USAGE
    _tell([f"warning: {one.message}" for one in unknown])
    wrong = wrong_files(config.nats)
    if wrong:  # not the loader's to say: whoever reads the configuration for another reason needs no right to these
        _tell(wrong)
        return USAGE
    return loop_runner()(daemon.run(config, reload))


def _tell(lines: list[str]) -> None:
    for line in lines:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
