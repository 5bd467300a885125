"""The page's texts and tables: the numbers in short, failures with their tracebacks, slow calls.

Thread: any; a model belongs to one document.
Guarantees: what comes from the user's program (names, errors, arguments) is shown as text, whatever
is in it.
"""

from __future__ import annotations

import os
from html import escape
from typing import Any

from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJS,
    DataTable,
    DateFormatter,
    Div,
    InlineStyleSheet,
    NumberFormatter,
    StringFormatter,
    TableColumn,
)

from ...stats import Durations
from ..words import count, seconds, size
from . import looks
from .record import Record

#: How high a table is at least and at most, and a row of it.
_LEAST, _MOST, _ROW = 60, 330, 25
_NO_TRACE = "Choose a row to see its traceback."

_SHOW_TRACE = """
const [row] = source.selected.indices
const text = row === undefined ? none : source.data.trace[row] || source.data.text[row]
const pre = document.createElement("pre")
pre.textContent = text
trace.text = pre.outerHTML
"""


def _sheet(css: str) -> InlineStyleSheet:
    return InlineStyleSheet(css=css)


class Summary:
    """What the executor is, and its numbers."""

    def __init__(self, record: Record) -> None:
        self.model = Div(
            name="summary",
            text=_summary(record),
            sizing_mode="stretch_width",
            stylesheets=[_sheet(looks.TEXT)],
        )

    def show(self, record: Record) -> None:
        """Show what a record has."""
        self.model.text = _summary(record)


def _summary(record: Record) -> str:
    stats = record.stats
    age = (record.now - record.began_at) / 1000
    workers = f"{len(stats.workers)} worker{'' if len(stats.workers) == 1 else 's'}"
    when = "after" if record.state == "ended" else "for"
    tiles = [
        ("submitted", count(stats.submitted), False),
        ("finished", count(stats.finished), False),
        ("failed", count(stats.failed), stats.failed > 0),
        ("timed out", count(stats.timed_out), stats.timed_out > 0),
        ("cancelled", count(stats.cancelled), False),
        ("lost", count(stats.lost), stats.lost > 0),
        ("retried", count(stats.retried), False),
        ("running", count(stats.running), False),
        ("waiting", count(stats.queued), False),
        ("calls/s, now", count(stats.calls_per_second), False),
        ("calls/s, mean", count(_ended(record) / age if age else 0), False),
        *_durations("run time", stats.run_seconds),
        *_durations("wait time", stats.wait_seconds),
        ("workers replaced", count(stats.restarts), stats.restarts > 0),
        ("sent to workers", size(stats.bytes_sent), False),
        ("received", size(stats.bytes_received), False),
    ]
    shown = "".join(_tile(*tile) for tile in tiles)
    return (
        f"<h1>HybridExecutor in process {os.getpid()}</h1>"
        f"<p>{record.state} {when} {seconds(age)}, with {workers}</p>"
        f'<div class="tiles">{shown}</div>'
    )


def _ended(record: Record) -> int:
    stats = record.stats
    return stats.finished + stats.failed + stats.timed_out + stats.cancelled + stats.lost


def _durations(name: str, durations: Durations) -> list[tuple[str, str, bool]]:
    return [
        (f"{name}, p50", seconds(durations.p50), False),
        (f"{name}, p99", seconds(durations.p99), False),
        (f"{name}, max", seconds(durations.max), False),
    ]


def _tile(name: str, value: str, bad: bool) -> str:
    kind = "tile bad" if bad else "tile"
    return f'<div class="{kind}"><span>{escape(name)}</span><b>{escape(value)}</b></div>'


class Table:
    """A table under a heading."""

    def __init__(self, name: str, heading: str, empty: str, columns: list[TableColumn]) -> None:
        self.name = name
        self._heading, self._empty = heading, empty
        self._title = Div(sizing_mode="stretch_width", stylesheets=[_sheet(looks.TEXT)])
        self.source = ColumnDataSource(
            {str(column.field): [] for column in columns}, name=f"{name} columns"
        )
        self._table = DataTable(
            source=self.source,
            columns=columns,
            index_position=None,
            reorderable=False,  # needs more of jQuery than bokeh has
            sizing_mode="stretch_width",
            row_height=_ROW,
            stylesheets=[_sheet(looks.TABLE)],
        )
        # Else new values in as many rows as before are not drawn.
        redraw = CustomJS(args={"view": self._table.view}, code="view.change.emit()")
        self.source.js_on_change("data", redraw)
        self._parts: list[Any] = [self._title, self._table]

    @property
    def model(self) -> Column:
        """Its parts, one below the other."""
        return Column(*self._parts, name=self.name, sizing_mode="stretch_width", spacing=6)

    def show(self, record: Record) -> None:
        """Show what a record has."""
        columns = getattr(record, self.name)
        if columns == self.source.data and self._title.text:
            return
        rows = len(next(iter(columns.values())))
        self._title.text = f"<h2>{self._heading}</h2>" + ("" if rows else f"<p>{self._empty}</p>")
        self._table.height = min(max(_LEAST, (rows + 1) * _ROW + 4), _MOST)
        self._table.visible = rows > 0
        self.source.data = columns


class Failures(Table):
    """How calls have failed; the traceback of the chosen row is below."""

    def __init__(self, record: Record) -> None:
        super().__init__(
            "failures",
            "Failures, by type and place",
            "No call has failed.",
            [
                _number("count", "calls", 70),
                _text("error", "error", 170),
                _text("text", "its text, of the last", 420),
                _text("place", "raised at", 230),
                _text("function", "function", 150),
                TableColumn(
                    field="last",
                    title="last one at",
                    formatter=DateFormatter(format="%H:%M:%S"),
                    width=90,
                ),
                _number("pid", "pid", 80, "0"),
                *_node_of(record),
            ],
        )
        self._trace = Div(sizing_mode="stretch_width", stylesheets=[_sheet(looks.TRACE)])
        self._parts.append(self._trace)
        show = CustomJS(
            args={"source": self.source, "trace": self._trace, "none": _NO_TRACE}, code=_SHOW_TRACE
        )
        self.source.selected.js_on_change("indices", show)

    def show(self, record: Record) -> None:
        """Show what a record has; the worst is chosen at first."""
        super().show(record)
        counts = record.failures["count"]
        if counts and not self._trace.text:
            worst = counts.index(max(counts))
            self.source.selected.indices = [worst]
            self._trace.text = f"<pre>{escape(record.failures['trace'][worst] or _NO_TRACE)}</pre>"


class Slowest(Table):
    """The calls that were seen to run for longest."""

    def __init__(self, record: Record) -> None:
        super().__init__(
            "slowest",
            "Slowest calls, as far as they were seen",
            "No call was seen running.",
            [
                _number("seconds", "ran for (s)", 90, "0,0.000"),
                _text("call", "call", 760),
                _number("pid", "pid", 90, "0"),
                *_node_of(record),
            ],
        )


class Nodes(Table):
    """The nodes of a cluster that have the workers."""

    def __init__(self) -> None:
        super().__init__(
            "nodes",
            "Nodes",
            "There is no node.",
            [
                _text("node", "node", 170),
                _text("address", "address", 200),
                _number("workers", "workers", 70),
                _number("places", "places", 70),
                _number("running", "running", 80),
                _number("queued", "queued", 80),
                _number("done", "done", 90),
                _number("failed", "failed", 80),
                _number("cpu", "CPU (s)", 80, "0,0.0"),
                _number("rss", "memory (MB)", 90),
                _number("round_trip", "round trip (ms)", 100, "0,0.0"),
            ],
        )


def _node_of(record: Record) -> list[TableColumn]:
    """The column with the node of a call's worker, if there are nodes."""
    return [_text("node", "node", 120)] if record.has_nodes else []


def _number(field: str, title: str, width: int, shape: str = "0,0") -> TableColumn:
    formatter = NumberFormatter(format=shape, text_align="right", nan_format="")
    return TableColumn(field=field, title=title, width=width, formatter=formatter)


def _text(field: str, title: str, width: int) -> TableColumn:
    return TableColumn(field=field, title=title, width=width, formatter=StringFormatter())
