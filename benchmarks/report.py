"""Write results, as the JSON has them, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .judge import SLOPE
from .question import OURS

#: A dictionary of the JSON: a question's, a table's, or the whole document.
Found = dict[str, Any]


def heading(document: Found) -> str:
    """What was run, when and where."""
    facts = [f"- {name}: {fact}" for name, fact in document["machine"].items()]
    return "\n".join([f"`{document['command']}`, {document['date']}", "", *facts])


def section(question: Found) -> str:
    """Everything about one question."""
    parts = [f"## {question['title']}", question["method"]]
    if question["axis"]:
        parts += [curve(question, key) for key in _metrics(question)]
    else:
        parts += [_table(table) for table in question["tables"]]
    notes = [f"- {contender}: {note}" for contender, note in question["notes"].items()]
    return "\n\n".join([*parts, "\n".join(notes)]).strip()


def _table(table: Found) -> str:
    lines = [
        _caption(table["metric"], table["case"]),
        "",
        f"| | median | best | worst | {OURS} is | target | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in table["rows"]:
        ratio = "" if row["ratio"] is None else f"{figure(row['ratio'])}×"
        values = [figure(row[key]) for key in ("median", "best", "worst")]
        lines.append(_line(row["contender"], *values, ratio, row["target"], row["verdict"]))
    return "\n".join(lines)


def _caption(metric: Found, case: str) -> str:
    return f"**{metric['what']}, {metric['unit']}**" + (f", {case}" if case else "")


def curve(question: Found, key: str) -> str:
    """The medians of one metric, a column for each number of units, and how they grow."""
    tables = [table for table in question["tables"] if table["metric"]["key"] == key]
    slopes = {slope["contender"]: slope for slope in question["slopes"] if slope["metric"] == key}
    points = [f"{int(table['case']):,}" for table in tables]
    lines = [
        _caption(tables[0]["metric"], f"by {question['axis']}"),
        "",
        _line("", *points, "grows with power", ""),
        "|---|" + "---:|" * (len(points) + 1) + "---|",
    ]
    for contender in _contenders(tables):
        medians = [_median(table, contender) for table in tables]
        slope = slopes.get(contender)
        growth = (f"{slope['power']:+.2f}", slope["verdict"]) if slope else ("", "")
        lines.append(_line(contender, *medians, *growth))
    return "\n".join(lines)


def medians(question: Found) -> str:
    """The medians of everything that was asked, a column for each metric and case."""
    tables = question["tables"]
    several = len(_metrics(question)) > 1
    heads = []
    for table in tables:
        metric, case = table["metric"], table["case"]
        what = f"{metric['what']}, {metric['unit']}" if several or not case else metric["unit"]
        heads.append(f"{case}: {what}" if case and several else f"{case or what}")
    unit = "" if several else tables[0]["metric"]["unit"]
    lines = [_line(unit, *heads), "|---|" + "---:|" * len(tables)]
    lines += [
        _line(contender, *[_median(table, contender) for table in tables])
        for contender in _contenders(tables)
    ]
    return "\n".join(lines)


def targets(document: Found) -> str:
    """One line for every figure that is to be reached."""
    lines = [
        f"| | {OURS} | beside | reached | target | |",
        "|---|---:|---|---:|---:|---|",
    ]
    for question in document["questions"].values():
        lines += _question_targets(question)
    return "\n".join(lines)


def _question_targets(question: Found) -> Iterator[str]:
    several = len(_metrics(question)) > 1
    for table in question["tables"]:
        metric, ours = table["metric"], _median(table, OURS)
        what = [question["title"], metric["what"] if several else "", table["case"]]
        # Of the peers that share a target, the one that comes closest to failing it.
        hardest: dict[str, Found] = {}
        for row in table["rows"]:
            if row["target"]:
                other = hardest.setdefault(row["target"], row)
                if _harder(row, other, metric["higher_is_better"]):
                    hardest[row["target"]] = row
        for row in hardest.values():
            beside, reached = "", ""
            if row["contender"] != OURS:
                beside = f"{row['contender']}: {figure(row['median'])}"
                reached = "" if row["reached"] is None else f"{figure(row['reached'])}×"
            yield _line(
                ": ".join(filter(None, what)), f"{ours} {metric['unit']}", beside, reached,
                row["target"], row["verdict"],
            )  # fmt: skip
    names = {table["metric"]["key"]: table["metric"]["what"] for table in question["tables"]}
    for slope in question["slopes"]:
        if slope["verdict"]:
            yield _line(
                f"{question['title']}: {names[slope['metric']]}", slope["contender"], "",
                f"power {slope['power']:+.2f}", f"≤ {SLOPE}", slope["verdict"],
            )  # fmt: skip


def _harder(row: Found, other: Found, higher_is_better: bool) -> bool:
    if row["reached"] is None or other["reached"] is None:
        return row["reached"] is None
    return (row["reached"] < other["reached"]) == higher_is_better


def _metrics(question: Found) -> list[str]:
    return list(dict.fromkeys(table["metric"]["key"] for table in question["tables"]))


def _contenders(tables: list[Found]) -> list[str]:
    return list(dict.fromkeys(row["contender"] for table in tables for row in table["rows"]))


def _median(table: Found, contender: str) -> str:
    for row in table["rows"]:
        if row["contender"] == contender:
            return figure(row["median"])
    return ""


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def figure(value: float) -> str:
    """Three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{digits}f}"
