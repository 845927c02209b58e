"""`python -m ajc module:app` serves a responder that a module defines."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from ajc.errors import AjcError, Closed, InvalidValue, NotFound
from ajc.responder import Responder

FAILED = 1
USAGE = 2
NO_CONNECTION = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit code: 0 ended by a signal, 1 failed, 2 usage, 5 refused or closed for good."""
    parser = argparse.ArgumentParser(
        prog="python -m ajc",
        description="Serve the handlers of an ajc.Responder until SIGTERM or SIGINT.",
        epilog="example: python -m ajc myproject.tasks:app --server nats://127.0.0.1:4222",
    )
    parser.add_argument("app", metavar="MODULE:APP", help="the module, and the name of the Responder in it")
    parser.add_argument("-s", "--server", help="URL of the server, several with commas between")
    parser.add_argument("-c", "--context", help="name of a NATS context")
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: info"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        app = load(options.app)
    except (AjcError, ImportError, AttributeError, TypeError, ValueError) as error:
        print(f"python -m ajc: {options.app}: {error}", file=sys.stderr)  # noqa: T201  (a command's words)
        return USAGE
    try:
        app.run(options.server, context=options.context)
    except Closed as error:
        print(f"python -m ajc: {error}", file=sys.stderr)  # noqa: T201
        return NO_CONNECTION
    except AjcError as error:
        print(f"python -m ajc: {error}", file=sys.stderr)  # noqa: T201
        named = isinstance(error, (InvalidValue, NotFound))  # the server or the context, on the command line
        return USAGE if named else FAILED
    return FAILED if app.interrupted else 0


def load(place: str) -> Responder:
    """Import `module:name` (the current folder counts) and return the responder there."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise ValueError("write it as module:name")
    if module.endswith(".py"):
        raise ValueError(f"name the module, not its file: {module.removesuffix('.py').replace('/', '.')}:{name}")
    if os.getcwd() not in sys.path:  # noqa: PTH109  (as the interpreter itself spells it)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, Responder):
        raise TypeError(f"{name} is no ajc.Responder")
    return found


if __name__ == "__main__":
    sys.exit(main())
