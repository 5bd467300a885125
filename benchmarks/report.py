"""Turn samples into medians, ratios, verdicts and Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .question import OURS, Metric, Question, Target
from .rounds import Samples


@dataclass(frozen=True)
class Row:
    """One contender's line in a table."""

    contender: str
    median: float
    best: float
    worst: float
    #: Our figure by this one: the median of the rounds' ratios; None for our own line.
    ratio: float | None
    target: str
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
        ratio = None
        if contender != OURS:
            ratio = _ratio(series.get(OURS, []), values)
        target, verdict = _judge(question.targets, case, metric, contender, series)
        best, worst = min(known), max(known)
        if metric.higher_is_better:
            best, worst = worst, best
        made.append(Row(contender, median(known), best, worst, ratio, target, verdict))
    return made


def _ratio(ours: list[float | None], theirs: list[float | None]) -> float | None:
    pairs = zip(ours, theirs, strict=False)
    ratios = [a / b for a, b in pairs if a is not None and b is not None and b > 0]
    return median(ratios) if ratios else None


def _judge(
    targets: Iterable[Target],
    case: str,
    metric: Metric,
    contender: str,
    series: Mapping[str, list[float | None]],
) -> tuple[str, str]:
    """The target that this line shows, and how it fares."""
    sign = "≥" if metric.higher_is_better else "≤"
    for target in targets:
        if target.metric != metric.key or (target.cases and case not in target.cases):
            continue
        ours = series.get(target.ours, [])
        if contender in target.against:
            reached = _ratio(ours, series[contender])
            text = f"{sign} {target.bound:g}×"
        elif not target.against and contender == target.ours:
            known = [value for value in ours if value is not None]
            reached = median(known) if known else None
            text = f"{sign} {target.bound:g} {metric.unit}"
        else:
            continue
        if reached is None:
            return text, "not measured"
        return text, verdict(reached, target.bound, metric.higher_is_better)
    return "", ""


def verdict(reached: float, bound: float, higher_is_better: bool) -> str:
    """Whether ``bound`` is met, and how far away it is."""
    met = reached >= bound if higher_is_better else reached <= bound
    distance = (reached / bound - 1) * 100
    return f"{'met' if met else 'not met'} ({distance:+.0f} %)"


def table(question: Question, samples: Samples, case: str, metric: Metric) -> str:
    """One figure of one case, as a Markdown table."""
    title = f"**{metric.what}, {metric.unit}**" + (f", {case}" if case else "")
    lines = [
        title,
        "",
        f"| | median | best | worst | {OURS} is | target | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows(question, samples, case, metric):
        ratio = "" if row.ratio is None else f"{figure(row.ratio)}×"
        cells = [row.contender, figure(row.median), figure(row.best), figure(row.worst), ratio]
        lines.append(f"| {' | '.join([*cells, row.target, row.verdict])} |")
    return "\n".join(lines)


def section(question: Question, samples: Samples) -> str:
    """Everything about one question, as Markdown."""
    parts = [f"## {question.title}", question.method]
    parts += [
        table(question, samples, case, metric)
        for metric in question.metrics
        for case in question.cases
    ]
    parts += [f"- {contender}: {note}" for contender, note in samples.notes.items()]
    return "\n\n".join(parts)


def as_json(question: Question, samples: Samples) -> dict[str, Any]:
    """The same for programs, with every single sample."""
    tables = [
        {
            "case": case,
            "metric": asdict(metric),
            "rows": [asdict(row) for row in rows(question, samples, case, metric)],
        }
        for metric in question.metrics
        for case in question.cases
    ]
    kept = [
        {"case": case, "contender": contender, "rounds": figures}
        for (case, contender), figures in samples.figures.items()
    ]
    return {
        "title": question.title,
        "method": question.method,
        "tables": tables,
        "notes": samples.notes,
        "samples": kept,
    }


def figure(value: float) -> str:
    """Three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{digits}f}"
