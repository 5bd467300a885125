"""Draw results, as the JSON has them: bars for a question, lines for a curve, one SVG for each.

Transparent, with colours that can be read on a light page and on a dark one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .question import OURS
from .report import figure

INK, FAINT = "#808890", "#80889055"
#: Ours, then the peers in their order.
LINES = ("#2f81f7", "#58a6ff", "#e0823d", "#3fa45b", "#b06bd0")
BAR, OUR_BAR = "#9aa3ac", "#2f81f7"
#: Bars whose values are further apart than this stand on a logarithmic axis.
LOGARITHMIC = 12
COLUMNS = 2
WIDTH = 8.2

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hybridexec",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
}


Found = dict[str, Any]


def draw(document: Found, folder: Path) -> None:
    """Write a plot of each question into ``folder``; without matplotlib, none."""
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(_STYLE):
        for name, question in document["questions"].items():
            panels = _panels(question)
            if not panels:
                continue
            columns = min(COLUMNS, len(panels))
            lines = math.ceil(len(panels) / columns)
            height = 2.6 if question["axis"] else 0.7 + 0.23 * max(map(_length, panels))
            drawing, axes = plt.subplots(
                lines, columns, figsize=(WIDTH, height * lines), squeeze=False, layout="constrained"
            )
            for place, axes_here in enumerate(axes.flat):
                if place >= len(panels):
                    axes_here.set_axis_off()
                elif question["axis"]:
                    _draw_lines(axes_here, panels[place], question["axis"], legend=place == 0)
                else:
                    _draw_bars(axes_here, panels[place][0], names=place % columns == 0)
            drawing.savefig(folder / f"{name}.svg", transparent=True, metadata={"Date": None})
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


def _length(panel: list[Found]) -> int:
    return len(panel[0]["rows"])


def _draw_bars(axes: Any, table: Found, names: bool) -> None:
    rows = table["rows"]
    values = [row["median"] for row in rows]
    least, most = min(values), max(values)
    places = range(len(rows))
    colours = [OUR_BAR if row["contender"].startswith(OURS) else BAR for row in rows]
    if least > 0 and most / least > LOGARITHMIC:
        axes.set_xscale("log")
        axes.set_xlim(least / 2, most * 6)
    else:
        axes.set_xlim(min(0, least), max(most, 0) * 1.25 or 1)
    axes.barh(places, values, color=colours, height=0.7)
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            figure(row["median"]), (max(row["median"], 0), place), (3, 0),
            textcoords="offset points", va="center",
        )  # fmt: skip
    axes.set_yticks(places, [row["contender"] if names else "" for row in rows])
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.tick_params(which="minor", bottom=False)
    axes.spines[["bottom"]].set_visible(False)
    axes.invert_yaxis()
    metric = table["metric"]
    better = "more" if metric["higher_is_better"] else "less"
    case = f"\n{table['case']}" if table["case"] else ""
    axes.set_title(f"{metric['what']}, {metric['unit']} ({better} is better){case}", loc="left")


def _draw_lines(axes: Any, tables: list[Found], axis: str, legend: bool) -> None:
    lines: dict[str, list[tuple[float, float]]] = {}
    for table in tables:
        for row in table["rows"]:
            points = lines.setdefault(row["contender"], [])
            points.append((float(table["case"]), row["median"]))
    for colour, (contender, points) in zip(LINES, lines.items(), strict=False):
        ours = contender.startswith(OURS)
        axes.plot(
            *zip(*points, strict=True), "o-", color=colour, markersize=4, label=contender,
            linewidth=2 if ours else 1.2, zorder=3 if ours else 2,
        )  # fmt: skip
    values = [value for points in lines.values() for _, value in points]
    axes.set_xscale("log")
    if min(values) > 0:
        axes.set_yscale("log")
        # No less than a factor of ten, or noise would look like growth.
        middle = math.sqrt(min(values) * max(values))
        axes.set_ylim(min(min(values) / 1.5, middle / 4), max(max(values) * 1.5, middle * 4))
    axes.grid(visible=True, linewidth=0.6)
    axes.set_xlabel(axis)
    metric = tables[0]["metric"]
    axes.set_title(f"{metric['what']}, {metric['unit']}", loc="left")
    if legend:
        axes.legend()
