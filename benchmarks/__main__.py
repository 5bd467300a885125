"""``python -m benchmarks``: run questions, print tables, write JSON. It never fails on a figure."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import time
from pathlib import Path

from . import machine, report, rounds
from .question import Question

QUESTIONS = (
    "submit_throughput",
    "map_throughput",
    "round_trip",
    "sleepers",
    "start_up",
    "cpu_bound",
    "fetch",
    "memory",
    "stuck_worker",
)


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parse(arguments)
    names = options.names or QUESTIONS
    scale = "smoke" if options.smoke else "quick" if options.quick else "full"
    command = shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])
    facts = machine.describe()
    print("# Benchmarks\n")
    print(f"`{command}`, {time.strftime('%Y-%m-%d')}\n")
    print("\n".join(f"- {name}: {fact}" for name, fact in facts.items()), flush=True)
    results = {}
    for name in names:
        question: Question = importlib.import_module(f"{__package__}.{name}").QUESTION
        samples = rounds.run(name, question, scale, options.rounds, _show_progress)
        _show_progress("")
        print(f"\n{report.section(question, samples)}", flush=True)
        results[name] = report.as_json(question, samples)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"command": command, "scale": scale, "machine": facts, "questions": results}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="less of everything: 3 minutes")
    parser.add_argument("--smoke", action="store_true", help="next to nothing: does it run?")
    parser.add_argument("--rounds", type=int, help="measurements of each contender")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the results")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in QUESTIONS:
            parser.error(f"no question {name!r}; there are {', '.join(QUESTIONS)}")
    return options


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
