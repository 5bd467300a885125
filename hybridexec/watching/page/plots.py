"""The page's plots.

Thread: any; a plot belongs to one document.
"""

from __future__ import annotations

from typing import Any

from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    DatetimeTickFormatter,
    HoverTool,
    Label,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure

from . import looks
from .record import OUTCOMES, Columns, Record

#: How workers' ends are marked.
_LOST, _PLANNED = ("x", looks.LOST_COLOUR), ("circle", looks.PLANNED_COLOUR)
#: The columns with a row for each worker that lived.
_LIVES = ("workers", "lives", "ends", "blocked")


class Plot:
    """A figure, and what it says while it has nothing to show."""

    def __init__(self, name: str, title: str, unit: str, empty: str, **options: Any) -> None:
        figure_ = self.figure = figure(
            name=name,
            title=title,
            height=230,
            sizing_mode="stretch_width",
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=None,
            min_border_left=64,  # so that plots above each other begin alike
            tools="pan,xwheel_zoom,box_zoom,reset,save",
            **options,
        )
        figure_.toolbar.logo = None
        figure_.toolbar.autohide = True
        figure_.title.text_font_size = "15px"
        figure_.yaxis.axis_label = unit
        figure_.xaxis.minor_tick_line_color = figure_.yaxis.minor_tick_line_color = None
        figure_.xgrid.visible = False
        figure_.axis.axis_label_text_font_style = "normal"
        self.note = Label(
            x=16, y=16, x_units="screen", y_units="screen", text=empty, text_font_size="13px"
        )
        figure_.add_layout(self.note)

    def set_empty(self, empty: bool) -> None:
        """Whether there is nothing to show."""
        self.note.visible = empty


class Span:
    """What an axis shows: what there is, unless the reader has chosen something else."""

    def __init__(self, start: float, end: float) -> None:
        self.range = Range1d(start, end)
        self._shown = start, end

    def show(self, start: float, end: float) -> None:
        """There is so much by now."""
        shown = self.range
        if self._shown == (shown.start, shown.end):
            shown.start, shown.end = self._shown = start, end
        shown.reset_start, shown.reset_end = start, end


class Plots:
    """All of them, and the columns that they draw."""

    def __init__(self, record: Record) -> None:
        self._record = record
        where = " on node @node" if record.has_nodes else ""
        self._who = ("worker", f"@worker (@lane, pid @pid{{0}}{where})")
        #: The time that is shown, on all plots; and how long calls ran and waited.
        self._time = Span(0, 1)
        self._spans = {"runs": Span(1e-3, 1), "waits": Span(1e-3, 1)}
        self._sources: dict[str, ColumnDataSource] = {}
        self._all = [
            (self._rates(), "rates"),
            (
                self._of_workers("running", "Calls in flight, per worker", "calls", "0", 4),
                "workers",
            ),
            (self._durations("runs", "Run time", "how long calls ran"), "runs"),
            (
                self._durations("waits", "Wait time", "how long calls waited until they ran"),
                "waits",
            ),
            (
                self._of_workers("hub_lag", "Hub lag, per worker", "seconds", "0.0[0]", 0.5),
                "workers",
            ),
            (self._of_workers("rss", "Memory, per worker", "MB", "0", 10), "workers"),
            (self._lives(), "lives"),
        ]
        #: By name, in the order in which they are shown.
        self.plots = [plot for plot, _ in self._all]
        self.show(record)

    def show(self, record: Record) -> None:
        """Show what a record has."""
        for name, source in self._sources.items():
            columns = _drawn(record, name)
            if columns != source.data:
                source.data = columns
        for plot, name in self._all:
            plot.set_empty(not next(iter(getattr(record, name).values())))
        self._time.show(record.began_at, max(record.now, record.began_at + 1000.0))
        for name, span in self._spans.items():
            bars: Columns = getattr(record, name)
            if bars["start"]:
                span.show(bars["start"][0], bars["end"][-1])
        lines = 1 + max(record.lives["line"], default=0)
        self._lines.start, self._lines.end = lines - 0.4, -0.6

    def _source(self, name: str) -> ColumnDataSource:
        if name not in self._sources:
            columns = _drawn(self._record, name)
            self._sources[name] = ColumnDataSource(columns, name=f"{name} columns")
        return self._sources[name]

    def _over_time(self, name: str, title: str, unit: str, empty: str, **options: Any) -> Plot:
        plot = Plot(
            name, title, unit, empty, x_axis_type="datetime", x_range=self._time.range, **options
        )
        plot.figure.xaxis.formatter = DatetimeTickFormatter(
            microseconds="%H:%M:%S.%3N",
            milliseconds="%H:%M:%S.%3N",
            seconds="%H:%M:%S",
            minsec="%H:%M:%S",
            minutes="%H:%M",
            hourmin="%H:%M",
            hours="%H:%M",
            days="%m-%d %H:%M",
        )
        return plot

    def _rates(self) -> Plot:
        source = self._source("rates")
        plot = self._over_time(
            "rates",
            "Calls that ended, by outcome",
            "calls per second",
            "no call was seen to end yet",
        )
        drawn = plot.figure
        drawn.y_range.start = 0
        for outcome in OUTCOMES:
            drawn.varea_step(
                "at",
                f"{outcome}_from",
                f"{outcome}_to",
                step_mode="before",
                source=source,
                fill_color=looks.OUTCOME_COLOURS[outcome],
                fill_alpha=0.85,
                legend_label=outcome.replace("_", " "),
            )
        drawn.step(
            "at",
            "retried",
            mode="before",
            source=source,
            line_color=looks.RETRIED_COLOUR,
            line_width=1.5,
            line_dash="dashed",
            legend_label="retried",
        )
        total = drawn.step(
            "at", "total", mode="before", source=source, line_color="#888888", line_width=1
        )
        named = (*OUTCOMES, "retried")
        tips = [(name.replace("_", " "), f"@{name}{{0,0.0}} /s") for name in named]
        drawn.add_tools(
            HoverTool(
                visible=False,
                renderers=[total],
                mode="vline",
                tooltips=[("until", "@at{%H:%M:%S}"), *tips],
                formatters={"@at": "datetime"},
            )
        )
        legend = drawn.legend
        legend.orientation = "horizontal"
        legend.background_fill_color = legend.border_line_color = None
        legend.label_text_font_size = "12px"
        legend.glyph_width = legend.glyph_height = 14
        legend.spacing, legend.padding, legend.margin = 10, 0, 0
        drawn.add_layout(legend[0], "above")
        drawn.yaxis.formatter = NumeralTickFormatter(format="0,0.[0]")
        return plot

    def _of_workers(self, series: str, title: str, unit: str, ticks: str, least: float) -> Plot:
        """
        Args:
            least: how much the axis has at least.
        """
        plot = self._over_time(series, title, unit, "no worker was seen yet")
        drawn = plot.figure
        drawn.y_range.start, drawn.y_range.min_interval = 0, least
        lines = drawn.multi_line(
            "at",
            series,
            source=self._source("workers"),
            line_color="colour",
            line_width=1.5,
            line_alpha=0.9,
            hover_line_color="colour",
            hover_line_width=3.5,
        )
        drawn.add_tools(
            HoverTool(
                visible=False,
                renderers=[lines],
                line_policy="nearest",
                tooltips=[
                    self._who,
                    (unit, f"$data_y{{0,{ticks}}}"),
                    ("at", "$data_x{%H:%M:%S}"),
                ],
                formatters={"$data_x": "datetime"},
            )
        )
        drawn.yaxis.formatter = NumeralTickFormatter(format=f"0,{ticks}")
        return plot

    def _durations(self, name: str, title: str, label: str) -> Plot:
        plot = Plot(
            name,
            title,
            "calls, by area",
            "no call has run yet",
            x_axis_type="log",
            x_range=self._spans[name].range,
        )
        drawn = plot.figure
        drawn.y_range.start = 0
        drawn.xaxis.axis_label = label
        drawn.xaxis.formatter = CustomJSTickFormatter(code=looks.TICKS_OF_SECONDS)
        drawn.yaxis.formatter = NumeralTickFormatter(format="0,0")
        bars = drawn.quad(
            left="start",
            right="end",
            bottom=0,
            top="height",
            source=self._source(name),
            fill_color=looks.BAR_COLOUR,
            line_color=None,
            hover_fill_color="#0072B2",
        )
        drawn.add_tools(
            HoverTool(
                visible=False,
                renderers=[bars],
                tooltips=[
                    ("from", "@start{0.000000} s"),
                    ("to", "@end{0.000000} s"),
                    ("calls", "@count{0,0} (@percent{0.00} %)"),
                ],
            )
        )
        return plot

    def _lives(self) -> Plot:
        self._lines = Range1d(0.6, -0.6)  # from above
        plot = self._over_time(
            "lives", "Lives of workers", "", "no worker was started yet", y_range=self._lines
        )
        drawn = plot.figure
        drawn.yaxis.visible = False
        drawn.ygrid.visible = False
        starting = drawn.hbar(
            y="line",
            left="start",
            right="ready",
            height=0.5,
            source=self._source("lives"),
            color="colour",
            alpha=0.35,
        )
        living = drawn.hbar(
            y="line",
            left="ready",
            right="end",
            height=0.5,
            source=self._source("lives"),
            color="colour",
            alpha=0.8,
        )
        stuck = drawn.hbar(
            y="line",
            left="start",
            right="end",
            height=0.8,
            source=self._source("blocked"),
            fill_color="#000000",
            line_color="#ffffff",
            alpha=0.75,
        )
        mark = {"x": "at", "y": "line", "marker": "marker", "fill_color": None}
        drawn.scatter(
            **mark, source=self._source("ends"), size=16, line_color="#ffffff", line_width=7
        )
        ends = drawn.scatter(
            **mark, source=self._source("ends"), size=14, line_color="mark", line_width=3
        )
        tips = {
            living: [("lived for", "@seconds{0,0.0} s"), ("end", "@cause")],
            stuck: [("hub blocked for", "@seconds{0,0.0} s"), ("by", "@call")],
            ends: [("ended at", "@at{%H:%M:%S}"), ("because", "@cause")],
            starting: [("started at", "@start{%H:%M:%S}")],
        }
        for drawn_, more in tips.items():
            clocks = {"@at": "datetime", "@start": "datetime"}
            drawn.add_tools(
                HoverTool(
                    visible=False,
                    renderers=[drawn_],
                    tooltips=[self._who, *more],
                    formatters=clocks,
                )
            )
        return plot


def _drawn(record: Record, name: str) -> Columns:
    """Columns of a record, with the colours in which they are drawn."""
    columns: Columns = getattr(record, name)
    if name in _LIVES:
        palette = looks.PALETTE
        columns = {
            **columns,
            "colour": [palette[line % len(palette)] for line in columns["line"]],
        }
    if name == "ends":
        marks = [_LOST if lost else _PLANNED for lost in columns["lost"]]
        columns["marker"] = [marker for marker, _ in marks]
        columns["mark"] = [colour for _, colour in marks]
    return columns
