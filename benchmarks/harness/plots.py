"""Draw results, as the JSON has them: bars for a question, lines for a curve, one SVG for each.

Transparent, in colours that can be read on a light page and on a dark one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .question import OURS
from .report import Found, contenders_of, figure

INK, FAINT = "#767e86", "#767e8655"
OUR_COLOURS = ("#2f81f7", "#7ab3fa", "#1f5cb0")
PEER_COLOURS = ("#e0823d", "#3fa45b", "#b06bd0")
BAR = "#9aa3ac"
#: Bars that are further apart than this stand on a logarithmic axis.
LOGARITHMIC = 12
COLUMNS = 2
WIDTH = 8.2
#: A headline fits on a telephone.
NARROW = 3.75

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hybridexec",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
}


class Part(NamedTuple):
    """A part of the headline: the bars of a question's metric in one case, and what it says."""

    question: str
    metric: str
    case: str
    text: str


def draw(document: Found, folder: Path) -> None:
    """Write a plot of each question into ``folder``; without matplotlib, none."""
    with _style() as plt:
        for name, question in document["questions"].items() if plt else ():
            panels = _panels(question)
            if not panels:
                continue
            names = contenders_of(question["tables"])
            columns = min(COLUMNS, len(panels))
            lines = math.ceil(len(panels) / columns)
            height = 2.6 if question["axis"] else _height(names)
            drawing, axes = plt.subplots(
                lines, columns, figsize=(WIDTH, height * lines), squeeze=False, layout="constrained"
            )
            for place, axes_here in enumerate(axes.flat):
                if place >= len(panels):
                    axes_here.set_axis_off()
                elif question["axis"]:
                    _draw_lines(axes_here, panels[place], question["axis"], legend=place == 0)
                else:
                    labels = names if place % columns == 0 else [""] * len(names)
                    _draw_bars(axes_here, panels[place][0], names, labels)
            _save(plt, drawing, folder / f"{name}.svg")


def headline(document: Found, parts: Sequence[Part], contenders: Sequence[str], file: Path) -> None:
    """Write the parts that were measured as one picture, one below the other."""
    tables = [table for part in parts if (table := _table_of(document, part, contenders))]
    names = [contenders_of([table]) for table in tables]
    with _style() as plt:
        if not plt or not tables:
            return
        heights = [_height(each) for each in names]
        drawing, axes = plt.subplots(
            len(tables), figsize=(NARROW, sum(heights)), height_ratios=heights, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for table, each, axes_here in zip(tables, names, axes.flat, strict=True):
            _draw_bars(axes_here, table, each, each)
        _save(plt, drawing, file)


def _table_of(document: Found, part: Part, contenders: Sequence[str]) -> Found | None:
    """The table that a part shows, of these contenders, under the part's text."""
    question = document["questions"].get(part.question)
    for table in question["tables"] if question else ():
        if (table["metric"]["key"], table["case"]) == (part.metric, part.case):
            rows = [row for row in table["rows"] if row["contender"] in contenders]
            text = part.text.format(**question["size"])
            return {"metric": {**table["metric"], "what": text}, "case": "", "rows": rows}
    return None


@contextmanager
def _style() -> Iterator[Any]:
    """pyplot, set up as all plots are drawn; None without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        yield None
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(_STYLE):
        yield plt


def _height(names: Sequence[str]) -> float:
    """What a bar for each of these needs, with a title."""
    return 0.75 + 0.23 * len(names)


def _save(plt: Any, drawing: Any, file: Path) -> None:
    drawing.savefig(file, transparent=True, metadata={"Date": None})
    plt.close(drawing)


def _panels(question: Found) -> list[list[Found]]:
    """What one pair of axes shows: a table, or all tables of a curve's metric."""
    tables = [table for table in question["tables"] if table["rows"]]
    if not question["axis"]:
        return [[table] for table in tables]
    by_metric: dict[str, list[Found]] = {}
    for table in tables:
        by_metric.setdefault(table["metric"]["key"], []).append(table)
    return list(by_metric.values())


def _draw_bars(axes: Any, table: Found, names: list[str], labels: list[str]) -> None:
    metric, rows = table["metric"], table["rows"]
    values = [row["median"] for row in rows]
    least, most = min(values), max(values)
    note = "more is better" if metric["higher_is_better"] else "less is better"
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    if least > 0 and most / least > LOGARITHMIC:
        note += ", log scale"
        axes.set_xscale("log")
        axes.set_xlim(least / 2, most * 6)
        axes.grid(visible=True, axis="x", linewidth=0.6)
        axes.minorticks_off()
    else:
        axes.set_xlim(min(0, least), max(most, 0) * 1.35 or 1)
    for row in rows:
        value, place = row["median"], names.index(row["contender"])
        colour = OUR_COLOURS[0] if row["contender"].startswith(OURS) else BAR
        axes.barh(place, value, color=colour, height=0.7)
        axes.annotate(
            figure(value), (max(value, 0), place), (3, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines[["bottom"]].set_visible(False)
    case = f"{table['case']}: " if table["case"] else ""
    axes.set_title(f"{metric['what']}, {metric['unit']}\n{case}{note}", loc="left")


def _draw_lines(axes: Any, tables: list[Found], axis: str, legend: bool) -> None:
    from matplotlib.ticker import LogLocator

    ours, peers = iter(OUR_COLOURS), iter(PEER_COLOURS)
    values: list[float] = []
    for contender in contenders_of(tables):
        points = list(_points(tables, contender))
        values += [value for _, value in points]
        own = contender.startswith(OURS)
        axes.plot(
            *zip(*points, strict=True), "o-", color=next(ours if own else peers), markersize=4,
            linewidth=2 if own else 1.2, zorder=3 if own else 2, label=contender,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    # No less than a factor of ten, or noise would look like growth.
    middle = math.sqrt(min(values) * max(values))
    axes.set_ylim(min(min(values) / 1.5, middle / 4), max(max(values) * 1.5, middle * 4))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.minorticks_off()
    counts = [int(table["case"]) for table in tables]
    axes.set_xticks(counts, [_short(count) for count in counts])
    axes.grid(visible=True, linewidth=0.6)
    axes.set_xlabel(axis)
    metric = tables[0]["metric"]
    axes.set_title(f"{metric['what']}, {metric['unit']}", loc="left")
    if legend:
        axes.legend()


def _points(tables: list[Found], contender: str) -> Iterator[tuple[float, float]]:
    for table in tables:
        for row in table["rows"]:
            # A cost below nothing is noise, and has no place on a logarithmic axis.
            if row["contender"] == contender and row["median"] > 0:
                yield float(table["case"]), row["median"]


def _short(count: int) -> str:
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:g}{letter}"
    return str(count)
