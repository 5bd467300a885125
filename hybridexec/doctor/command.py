"""The command ``hybridexec doctor``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from . import environment, program
from .finding import Finding
from .source import Source, read_program

NAME = "doctor"
HELP = "say what is wrong with a program, or with where it runs, before it hurts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Reads a program, and never runs it; looks at versions, limits and the like. The exit "
        "status is 0 if nothing is wrong, 1 if something is, 2 if there is no such program."
    )
    parser.add_argument("target", nargs="?", metavar="SCRIPT|MODULE", help="the program to read")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--concurrency", type=int, help="check limits for this, not for what the program asks for"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    try:
        findings = examine(arguments.target, arguments.concurrency)
    except FileNotFoundError as error:
        sys.stderr.write(f"hybridexec doctor: {error}\n")
        return 2
    facts = environment.facts()
    if arguments.json:
        told: dict[str, Any] = {
            "facts": facts,
            "findings": [{**finding._asdict(), "see": finding.see} for finding in findings],
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write(_text(facts, findings))
    return 1 if findings else 0


def examine(target: str | None, concurrency: int | None = None) -> list[Finding]:
    """All that is found.

    Raises:
        FileNotFoundError: there is no such program.
    """
    sources: list[Source] = []
    findings: list[Finding] = []
    if target is not None:
        sources, unread = read_program(target)
        cure = "mend it, or run the doctor with the Python that the program is for"
        findings += [
            Finding("syntax", path, f"it cannot be read: {why}", cure) for path, why in unread
        ]
    if sources:
        findings += program.examine(sources)
    asked = program.concurrency(sources)
    if concurrency is not None:
        asked = [(concurrency, "--concurrency")]
    return findings + list(environment.examine(sources, asked))


def _text(facts: dict[str, str], findings: list[Finding]) -> str:
    lines = [f"{name:12} {value}" for name, value in facts.items()]
    for where, what, cure, see in ((f.where, f.what, f.cure, f.see) for f in findings):
        lines += ["", where, f"    {what}.", f"    To do: {cure}.", f"    See {see}"]
    count = len(findings)
    lines += ["", f"{count} finding{'s' if count > 1 else ''}." if count else "Nothing is wrong."]
    return "\n".join(lines) + "\n"
