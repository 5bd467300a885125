"""The same faults, done to each contender: ``python -m benchmarks.faults`` prints the table."""

from __future__ import annotations

import argparse

from ..harness import machine
from .observe import observe
from .pools import CONTENDERS
from .scenarios import SCENARIOS
from .words import words


def main(arguments: list[str] | None = None) -> None:
    """Print the table that the command line asks for, as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", choices=CONTENDERS)
    parser.add_argument("--match", default="", metavar="TEXT", help="scenarios with TEXT in them")
    options = parser.parse_args(arguments)
    contenders = options.only or CONTENDERS
    print(f"{machine.heading('benchmarks.faults', arguments)}\n")
    print(f"| | {' | '.join(contenders)} |")
    print(f"|---|{'---|' * len(contenders)}", flush=True)
    for scenario in SCENARIOS:
        if options.match in scenario:
            cells = [words(observe(scenario, contender)) for contender in contenders]
            print(f"| {scenario} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
