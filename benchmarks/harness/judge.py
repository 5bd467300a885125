"""Turn samples into medians, ratios, slopes and verdicts: what the JSON holds.

Everything that is shown, tables and plots, is made from that JSON alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import linear_regression, median
from typing import Any

from .question import OURS, Metric, Question
from .rounds import Samples

#: How fast the cost of a unit may grow: with this power of the number of units. Half again as much
#: for ten times the work is what caches and the machine's other work can do; a cost that grows with
#: the square of the work has 1.
SLOPE = 0.15
#: The same for what is not the cost of a unit, but all of it: with 1 it grows as their number does.
WHOLE_SLOPE = 1 + SLOPE
#: The fewest points that a slope is judged by: small numbers show what every run costs once.
FEWEST_POINTS = 3


@dataclass(frozen=True)
class Row:
    """One contender's line in a table."""

    contender: str
    median: float
    best: float
    worst: float
    #: Our figure by this one: the median of the rounds' ratios; None for our own line.
    ratio: float | None
    #: What is to be reached, what was, and whether that is enough; empty where nothing is.
    target: str = ""
    reached: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Slope:
    """How the cost of a unit grows with their number."""

    metric: str
    contender: str
    power: float
    bound: float
    #: Empty for the others' curves.
    verdict: str


def rows(question: Question, samples: Samples, case: str, metric: Metric) -> list[Row]:
    """The lines of one table."""
    series = {
        contender: [(figures or {}).get(metric.key) for figures in samples.figures[case, contender]]
        for contender in question.contenders
        if (case, contender) in samples.figures
    }
    made = []
    for contender, values in series.items():
        known = [value for value in values if value is not None]
        if not known:
            continue
        ratio = None if contender == OURS else _ratio(series.get(OURS, []), values)
        best, worst = min(known), max(known)
        if metric.higher_is_better:
            best, worst = worst, best
        judged = _judge(question, case, metric, contender, series)
        made.append(Row(contender, median(known), best, worst, ratio, *judged))
    return made


def _ratio(ours: list[float | None], theirs: list[float | None]) -> float | None:
    pairs = zip(ours, theirs, strict=False)
    ratios = [a / b for a, b in pairs if a is not None and b is not None and b > 0]
    return median(ratios) if ratios else None


def _judge(
    question: Question,
    case: str,
    metric: Metric,
    contender: str,
    series: Mapping[str, list[float | None]],
) -> tuple[str, float | None, str]:
    """The target that this line shows, and how it fares."""
    sign = "≥" if metric.higher_is_better else "≤"
    for target in question.targets:
        if target.metric != metric.key or (target.cases and case not in target.cases):
            continue
        ours = series.get(target.ours, [])
        if contender in target.against:
            reached = _ratio(ours, series[contender])
            text = f"{sign} {target.bound:g}×"
        elif not target.against and contender == target.ours:
            known = [value for value in ours if value is not None]
            reached = median(known) if known else None
            text = f"{sign} {target.bound:,g} {metric.unit}"
        else:
            continue
        if reached is None:
            return text, None, "not measured"
        return text, reached, verdict(reached, target.bound, metric.higher_is_better)
    return "", None, ""


def verdict(reached: float, bound: float, higher_is_better: bool) -> str:
    """Whether ``bound`` is met, and how far away it is."""
    met = reached >= bound if higher_is_better else reached <= bound
    distance = (reached / bound - 1) * 100
    return f"{'met' if met else 'not met'} ({distance:+.0f} %)"


def slopes(question: Question, samples: Samples) -> list[Slope]:
    """The growth of each curve: the slope of its upper half, both axes logarithmic."""
    made = []
    for metric in question.metrics if question.axis else ():
        curves: dict[str, list[tuple[float, float]]] = {}
        for case in question.cases:
            for row in rows(question, samples, case, metric):
                if row.median > 0:
                    point = math.log(float(case)), math.log(row.median)
                    curves.setdefault(row.contender, []).append(point)
        for contender, points in curves.items():
            upper = points[-max(FEWEST_POINTS, math.ceil(len(points) / 2)) :]
            if len(upper) > 1:
                power = linear_regression(*zip(*upper, strict=True)).slope
                bound = SLOPE if metric.of_each else WHOLE_SLOPE
                growth = "not superlinear" if power <= bound else "superlinear"
                text = growth if contender.startswith(OURS) else ""
                made.append(Slope(metric.key, contender, power, bound, text))
    return made


def as_json(question: Question, samples: Samples, scale: str) -> dict[str, Any]:
    """Everything that was found out about a question, with every single sample."""
    cases = [case for case in question.cases if any(case == seen for seen, _ in samples.figures)]
    tables = [
        {
            "case": case,
            "metric": asdict(metric),
            "rows": [asdict(row) for row in rows(question, samples, case, metric)],
        }
        for metric in question.metrics
        for case in cases
    ]
    kept = [
        {"case": case, "contender": contender, "rounds": figures}
        for (case, contender), figures in samples.figures.items()
    ]
    return {
        "title": question.title,
        "method": question.method,
        "axis": question.axis,
        "size": question.sizes[scale],
        "tables": tables,
        "slopes": [asdict(slope) for slope in slopes(question, samples)],
        "notes": samples.notes,
        "seconds": samples.seconds,
        "samples": kept,
    }
