"""The command line: ``hybridexec COMMAND``, or ``python -m hybridexec COMMAND``.

A command is a module with ``NAME``, ``HELP``, ``add_arguments(parser)`` and ``run(arguments)``,
which returns the exit status.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import __version__
from .doctor import command as doctor
from .watching import stacks, top

_COMMANDS = (doctor, top, stacks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog="hybridexec")
    parser.add_argument("--version", action="version", version=f"hybridexec {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed)
    return status
