"""Questions, and figures that nobody has measured."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import judge
from benchmarks.harness.question import OURS, Metric, Question, Target
from benchmarks.harness.rounds import Samples

RATE = Metric("rate", "calls/s", "calls per second", higher_is_better=True)
TIME = Metric("time", "ms", "time")


def question(metric: Metric, *targets: Target, **options: Any) -> Question:
    options = {"contenders": (OURS, "peer"), "sizes": {"smoke": {}}, "rounds": {}, **options}
    return Question("Title", "How.", (metric,), targets=targets, **options)


def samples(key: str, ours: list[float], peer: list[float]) -> Samples:
    found = Samples()
    found.figures["", OURS] = [{key: value} for value in ours]
    found.figures["", "peer"] = [{key: value} for value in peer]
    return found


def curve(*costs: float) -> tuple[Question, Samples]:
    """A curve of so many costs, for 1, 10, 100 ... calls."""
    cases = tuple(str(10**power) for power in range(len(costs)))
    found = Samples()
    for case, cost in zip(cases, costs, strict=True):
        found.figures[case, OURS] = [{"time": cost}]
    return question(TIME, cases=cases, axis="calls"), found


def found_out(name: str, asked: Question, found: Samples) -> dict[str, Any]:
    """A document as a run would write it."""
    return {
        "command": "python -m benchmarks",
        "date": "2026-01-02",
        "scale": "full",
        "machine": {"CPU": "one", "Python": "CPython"},
        "questions": {name: judge.as_json(asked, found, "smoke")},
    }
