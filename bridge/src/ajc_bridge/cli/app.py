"""The commands, in one tree. Nothing heavy is imported before a command runs: `--help` and completion stay quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ajc_bridge.cli import bench, conform, dev, dlq, doctor, handlers, queue, run, task
from ajc_bridge.cli import exec as execute

app = typer.Typer(
    name="ajc-bridge",
    help="The job queue that every language can use: a daemon between NATS JetStream and your handlers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("dev")(dev.dev)
app.command("run")(run.run)
app.command("exec")(execute.execute)
app.add_typer(task.app, name="task")
app.add_typer(queue.app, name="queue")
app.add_typer(dlq.app, name="dlq")
app.add_typer(handlers.app, name="handlers")
app.command("conform")(conform.conform)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only for --version

        sys.stdout.write(f"ajc-bridge {version('ajc-bridge')}\n")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Let the whole program have options of its own."""


def run_command_line() -> None:
    """Run the command that the process's arguments name, and end the process with its exit code."""
    from ajc.errors import AjcError  # noqa: PLC0415 - what is imported costs time before the first word
    from ajc_bridge.cli import exits, output  # noqa: PLC0415

    try:
        try:
            app(prog_name="ajc-bridge")
        finally:
            sys.stdout.flush()  # here, where its faults are still told
    except output.UnwritableError as error:
        output.stop_writing()
        exits.fail(error)
    except AjcError as error:
        exits.fail(error)
    except BrokenPipeError:  # whoever read stdout is gone (`| head`): no word of it, as other tools do
        output.stop_writing()
        sys.exit(exits.FAILED)
    except KeyboardInterrupt:
        os._exit(130)
