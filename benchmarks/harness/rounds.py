"""Run questions: every measurement in a fresh process, contenders taking turns (A B A B ...).

The turns matter: whatever else the machine is doing hits all contenders alike, so that the ratio
within one round is sound where the figures themselves are not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .question import Question, Size

#: Seconds after which a measurement is given up, by scale.
PATIENCE = {"full": 180.0, "quick": 20.0, "smoke": 60.0}

Figures = dict[str, float]


class Python(NamedTuple):
    """Who measures: an interpreter, and the folder whose ``benchmarks`` it runs."""

    executable: str = sys.executable
    folder: str | None = None


HERE = Python()


@dataclass
class Samples:
    """What was measured of one question."""

    #: By case and contender: the figures of each round, None where a measurement failed.
    figures: dict[tuple[str, str], list[Figures | None]] = field(default_factory=dict)
    #: What was left out or failed, and why.
    notes: dict[str, str] = field(default_factory=dict)
    #: How long each round took.
    seconds: list[float] = field(default_factory=list)
    #: Cases and contenders that need not be tried again.
    left_out: set[tuple[str, str]] = field(default_factory=set)


def run(
    questions: Mapping[str, Question],
    scale: str,
    rounds: int | None,
    seconds: float,
    progress: Callable[[str], None],
    elsewhere: Mapping[str, tuple[str, Python]] = {},
) -> dict[str, Samples]:
    """Measure every contender in every case of every question, as often as asked.

    Contenders that are found in ``elsewhere`` are measured as others of their question, by another
    Python.

    The second round of any question comes after the first of all, and so on, so that medians are
    of different times. After ``seconds``, only first rounds are begun.
    """
    samples = {name: Samples() for name in questions}
    end, took = time.monotonic() + seconds, dict.fromkeys(questions, 0.0)
    for number in range(rounds or max(question.rounds[scale] for question in questions.values())):
        # Short ones first, as far as is known: so time that is nearly over serves more of them.
        for name in sorted(questions, key=lambda name: took[name]):
            question, start = questions[name], time.monotonic()
            enough = number >= (rounds or question.rounds[scale])
            if enough or (number and start + took[name] > end):
                continue
            label = f"round {number + 1}"
            _run_once(name, question, scale, samples[name], label, progress, elsewhere)
            took[name] = time.monotonic() - start
            samples[name].seconds.append(round(took[name], 1))
    return samples


def _run_once(
    name: str,
    question: Question,
    scale: str,
    samples: Samples,
    label: str,
    progress: Callable[[str], None],
    elsewhere: Mapping[str, tuple[str, Python]],
) -> None:
    cases, contenders = question.asked(scale)
    for case in cases:
        for contender in contenders:
            if (case, contender) in samples.left_out:
                continue
            progress(f"{label}: {name} {case}: {contender}")
            size = question.sizes[scale]
            who, python = elsewhere.get(contender, (contender, HERE))
            figures, reason = measure(name, who, case, size, PATIENCE[scale], python)
            if reason:
                samples.notes[f"{contender}, {case}" if case else contender] = reason
            if reason.startswith("left out"):
                samples.left_out.add((case, contender))
            else:
                samples.figures.setdefault((case, contender), []).append(figures)


def measure(
    name: str, contender: str, case: str, size: Size, patience: float, python: Python = HERE
) -> tuple[Figures | None, str]:
    """One measurement: its figures, or None and what went wrong."""
    arguments = ["-m", "benchmarks.child", name, contender, case, json.dumps(size)]
    child = subprocess.Popen(
        [python.executable, *arguments], cwd=python.folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = child.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        return None, f"gave no result in {patience:.0f} s"
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
