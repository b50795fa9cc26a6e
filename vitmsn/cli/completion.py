"""`completion`: a script by which a shell completes commands, options and file names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from vitmsn import extras
from vitmsn.cli.inputs import Options

PATHS = {"inputs", "data", "test", "examples", "bundle", "source", "target", "out", "model", "init", "figure", "kinds"}


def completion(options: Options) -> int:
    """Print the script for the installed command, ``vitmsn``; it is read once and asks for nothing later."""
    with extras.named():
        import shtab
    parser: argparse.ArgumentParser = options.make_parser("vitmsn")
    for action in _actions(parser):
        if action.dest in PATHS:
            action.complete = shtab.FILE
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    """Every option and argument of the parser and of the commands in it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
        else:
            yield action
