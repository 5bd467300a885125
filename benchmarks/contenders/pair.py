"""The floor: the program people write by hand, a few processes with a greenlet for each item.

It has no futures, no errors, no balance and no cancellation: every item's process is settled
before the first one runs, and results come back as one list when the last one is done.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

#: What the floor is called among the contenders.
PAIR = "hand-written pair"


class Pair:
    """Processes that each run their part of a list."""

    def __init__(self, processes: int) -> None:
        command = [sys.executable, "-m", "benchmarks.contenders.pair_worker"]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(processes)
        ]
        for process in self._processes:
            assert pickle.load(process.stdout) == "ready"

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], limit: int) -> list[Any]:
        """``function`` of every item, at most ``limit`` at once in each process."""
        part = -(-len(items) // len(self._processes))
        for number, process in enumerate(self._processes):
            mine = items[number * part : (number + 1) * part]
            pickle.dump((function, mine, limit), process.stdin)
            process.stdin.flush()
        results: list[Any] = []
        for process in self._processes:
            results += pickle.load(process.stdout)
        return results

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._processes:
            with process:
                process.stdin.close()
