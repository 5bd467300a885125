"""A document of bokeh's that shows an executor: for a browser's tab, or for a file.

Thread: one at a time; each tab and each file has a document of its own.
"""

from __future__ import annotations

from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.models import CustomJS

from . import looks
from .plots import Plots
from .record import Record
from .tables import Failures, Nodes, Slowest, Summary, Table

#: The title of the browser's tab.
TITLE = "HybridExecutor"


class Page:
    """One document's."""

    def __init__(self, document: Document, record: Record) -> None:
        """Put the page into an empty document."""
        self._shown = record
        self._plots = Plots(record)
        self._summary = Summary(record)
        self._tables: list[Table] = [Failures(record), Slowest(record)]
        if record.has_nodes:
            self._tables.insert(0, Nodes())
        document.title = TITLE
        document.template = looks.FRAME
        document.template_variables.update(
            plots=[plot.figure.name for plot in self._plots.plots[:-1]],
            below=[self._plots.plots[-1].figure.name, *(table.name for table in self._tables)],
        )
        for table in self._tables:
            table.show(record)
        for model in (
            self._summary.model,
            *(plot.figure for plot in self._plots.plots),
            *(table.model for table in self._tables),
        ):
            document.add_root(model)
        figures = [plot.figure for plot in self._plots.plots]
        colours = {
            "titles": [figure.title for figure in figures],
            "axes": [axis for figure in figures for axis in figure.axis],
            "grids": [grid for figure in figures for grid in figure.grid],
            "legends": [legend for figure in figures for legend in figure.legend],
            "notes": [plot.note for plot in self._plots.plots],
        }
        document.js_on_event(DocumentReady, CustomJS(args=colours, code=looks.FOLLOW_COLOURS))

    def show(self, record: Record) -> None:
        """Show what a record has, if it is another one."""
        if record is self._shown:
            return
        self._shown = record
        self._summary.show(record)
        self._plots.show(record)
        for table in self._tables:
            table.show(record)
