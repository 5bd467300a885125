"""Run a question: every measurement in a fresh process, contenders taking turns (A B A B ...).

The turns matter: whatever else the machine is doing hits all contenders alike, so that the ratio
within one round is sound where the figures themselves are not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from .question import Question, Size

#: Seconds after which a measurement is given up.
PATIENCE = 180.0

Figures = dict[str, float]


@dataclass
class Samples:
    """What was measured of one question."""

    #: By case and contender: the figures of each round, None where a measurement failed.
    figures: dict[tuple[str, str], list[Figures | None]] = field(default_factory=dict)
    #: Contenders that were left out or failed, and why.
    notes: dict[str, str] = field(default_factory=dict)


def run(
    name: str,
    question: Question,
    scale: str,
    rounds: int | None,
    progress: Callable[[str], None],
) -> Samples:
    """Measure every contender in every case, ``rounds`` times."""
    samples = Samples()
    skipped: set[str] = set()
    for number in range(rounds or question.rounds[scale]):
        for case in question.cases:
            for contender in question.contenders:
                if contender in skipped:
                    continue
                progress(f"{name} {case} round {number + 1}: {contender}")
                figures, reason = measure(name, contender, case, question.sizes[scale])
                if reason:
                    samples.notes[contender] = reason
                if reason and reason.startswith("left out"):
                    skipped.add(contender)
                    continue
                samples.figures.setdefault((case, contender), []).append(figures)
    return samples


def measure(name: str, contender: str, case: str, size: Size) -> tuple[Figures | None, str]:
    """One measurement: its figures, or None and what went wrong."""
    command = [sys.executable, "-m", "benchmarks.child", name, contender, case, json.dumps(size)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return None, f"gave no result in {PATIENCE:.0f} s"
    finally:
        # Whatever it has left running would disturb the next one.
        _end_session(child.pid)
        child.wait()
    try:
        answer = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (errors.strip().splitlines() or ["no message"])[-1]
        return None, f"failed: {last}"
    if "skip" in answer:
        return None, f"left out: {answer['skip']}"
    return answer["figures"], ""


def _end_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass
