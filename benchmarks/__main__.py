"""``python -m benchmarks``: run questions, print tables, write JSON and plots.

It never fails on a figure.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

from .harness import against, bytecode, judge, machine, plots, report, rounds
from .harness.question import Question
from .questions import QUESTIONS, load

#: Where results go unless the command line says otherwise.
OUT = Path(__file__).parent / "out"
#: Seconds that --quick takes at most, if the first round of all questions takes less.
QUICK = 160.0


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parse(arguments)
    names = options.names or QUESTIONS
    scale = "smoke" if options.smoke else "quick" if options.quick else "full"
    bytecode.compile_all()
    document = {
        "command": machine.command("benchmarks", arguments),
        "date": time.strftime("%Y-%m-%d"),
        "scale": scale,
        "machine": machine.describe(),
        "questions": {},
    }
    questions: dict[str, Question] = {name: load(name).QUESTION for name in names}
    older, elsewhere = None, {}
    if options.against:
        try:
            older = against.install(options.against, OUT / "against")
        except subprocess.CalledProcessError as error:
            sys.exit(f"{options.against} cannot be installed: {error}")
        document["against"] = {"name": older.name, "subject": older.subject}
        elsewhere = older.elsewhere(questions)
        questions = {name: older.ask(question) for name, question in questions.items()}
    print(f"# Benchmarks\n\n{report.heading(document)}", flush=True)
    # The older one takes as much time as we do.
    quick = QUICK * (2 if older else 1)
    seconds = options.seconds or (quick if options.quick else math.inf)
    taken = rounds.run(questions, scale, options.rounds, seconds, _show_progress, elsewhere)
    _show_progress("")
    for name, question in questions.items():
        document["questions"][name] = found = judge.as_json(question, taken[name], scale)
        if older is not None:
            found["changes"] = against.changes(question, taken[name], older)
        print(f"\n{report.section(found)}")
    print(f"\n## Targets\n\n{report.targets(document)}", flush=True)
    if older is not None:
        print(f"\n## Against {older.name}\n\n{report.changes(document)}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.json"
    results.write_text(json.dumps(document, indent=1), encoding="utf-8")
    plots.draw(document, options.out)
    print(f"\n{results}, and plots beside it", file=sys.stderr)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="less of everything: 3 minutes")
    parser.add_argument("--smoke", action="store_true", help="next to nothing: does it run?")
    parser.add_argument("--against", metavar="REV", help="an older commit as one more contender")
    parser.add_argument("--rounds", type=int, help="measurements of each contender, at most")
    parser.add_argument("--seconds", type=float, help="begin no further round after this")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for JSON and plots")
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
