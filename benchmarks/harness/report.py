"""Write results, as the JSON has them, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from .question import OURS

#: Bounds that are so many times apart are none.
WIDE = 100.0

#: A dictionary of the JSON: a question's, a table's, or the whole document.
Found = dict[str, Any]


def heading(document: Found) -> str:
    """What was run, when and where."""
    facts = [f"- {name}: {fact}" for name, fact in document["machine"].items()]
    if "against" in document:
        facts.append("- {name}: {subject}".format(**document["against"]))
    return "\n".join([f"`{document['command']}`, {document['date']}", "", *facts])


def section(question: Found) -> str:
    """Everything about one question."""
    parts = [f"## {question['title']}", question["method"]]
    if question["axis"]:
        parts += curves(question)
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
        lines.append(line(row["contender"], *values, ratio, row["target"], row["verdict"]))
    return "\n".join(lines)


def _caption(metric: Found, case: str) -> str:
    return f"**{metric['what']}, {metric['unit']}**" + (f", {case}" if case else "")


def curves(question: Found) -> list[str]:
    """The medians of each metric, a column for each number of units, and how they grow."""
    made = []
    for key in _metrics(question):
        tables = _tables_of(question, key)
        growth = {
            slope["contender"]: (f"{slope['power']:+.2f}", slope["verdict"])
            for slope in question["slopes"]
            if slope["metric"] == key
        }
        points = [f"{int(table['case']):,}" for table in tables]
        caption = _caption(tables[0]["metric"], f"by {question['axis']}")
        made.append(_matrix(caption, points, tables, growth))
    return made


def medians(question: Found) -> list[str]:
    """The medians of everything that was asked, without what each round had."""
    tables = question["tables"]
    if not any(table["case"] for table in tables):
        heads = [f"{table['metric']['what']}, {table['metric']['unit']}" for table in tables]
        return [_matrix("", heads, tables)]
    made = []
    for key in _metrics(question):
        tables = _tables_of(question, key)
        cases = [table["case"] for table in tables]
        made.append(_matrix(_caption(tables[0]["metric"], ""), cases, tables))
    return made


def _matrix(
    caption: str, heads: list[str], tables: list[Found], more: Mapping[str, tuple[str, str]] = {}
) -> str:
    """A line for each contender, a column for each table; more columns for how they grow."""
    lines = [caption, ""] if caption else []
    lines += [
        line("", *heads, *(("grows with power", "") if more else ())),
        "|---|" + "---:|" * len(tables) + ("---:|---|" if more else ""),
    ]
    for contender in contenders_of(tables):
        cells = [median_of(table, contender) for table in tables]
        lines.append(line(contender, *cells, *more.get(contender, ("", "") if more else ())))
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
        metric, ours = table["metric"], median_of(table, OURS)
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
            yield line(
                ": ".join(filter(None, what)), f"{ours} {metric['unit']}", beside, reached,
                row["target"], row["verdict"],
            )  # fmt: skip
    names = {table["metric"]["key"]: table["metric"]["what"] for table in question["tables"]}
    for slope in question["slopes"]:
        if slope["verdict"]:
            yield line(
                f"{question['title']}: {names[slope['metric']]}", slope["contender"], "",
                f"power {slope['power']:+.2f}", f"≤ {slope['bound']}", slope["verdict"],
            )  # fmt: skip


def changes(document: Found) -> str:
    """One line for every figure of ours beside that of an older commit, and what is slower."""
    lines = [
        "| | | now | then | times as long | between | rounds | |",
        "|---|---|---:|---:|---:|---|---:|---|",
    ]
    slower = []
    for question in document["questions"].values():
        for change in question["changes"]:
            what = ": ".join(filter(None, (question["title"], change["metric"], change["case"])))
            verdict = change["verdict"]
            if verdict == "slower":
                slower.append(f"{what}, {change['contender']}")
                verdict = f"**{verdict}**"
            now, then, ratio, low, high = (
                figure(change[key]) for key in ("now", "then", "ratio", "low", "high")
            )
            known = change["high"] < WIDE * change["low"]
            lines.append(
                line(
                    what, change["contender"], f"{now} {change['unit']}", then, f"{ratio}×",
                    f"{low} to {high}" if known else "unknown", str(change["rounds"]), verdict,
                )
            )  # fmt: skip
    lines += ["", f"Slower by more than noise: {len(slower)} of {len(lines) - 2} figures."]
    return "\n".join([*lines, *(f"- {each}" for each in slower)])


def _harder(row: Found, other: Found, higher_is_better: bool) -> bool:
    if row["reached"] is None or other["reached"] is None:
        return row["reached"] is None
    return (row["reached"] < other["reached"]) == higher_is_better


def _metrics(question: Found) -> list[str]:
    return list(dict.fromkeys(table["metric"]["key"] for table in question["tables"]))


def _tables_of(question: Found, key: str) -> list[Found]:
    return [table for table in question["tables"] if table["metric"]["key"] == key]


def contenders_of(tables: list[Found]) -> list[str]:
    """Everybody in these tables, in their order."""
    return list(dict.fromkeys(row["contender"] for table in tables for row in table["rows"]))


def median_of(table: Found, contender: str) -> str:
    """A contender's median, or nothing if there is none."""
    for row in table["rows"]:
        if row["contender"] == contender:
            return figure(row["median"])
    return ""


def line(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def figure(value: float) -> str:
    """Three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{digits}f}"
