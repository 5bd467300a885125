"""A view as rich draws it.

Thread: any.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from . import content
from .view import View

#: Workers' rows that are shown in the lowest terminal.
_LEAST = 4
#: Lines that are neither workers' rows nor below them.
_OTHERS = 6
#: Lines that a picture may have that need not fit into the terminal.
_WHOLE = 100
#: Columns that stay free: at Ctrl-C, terminals write two characters behind the last line, and if
#: these went to a line of their own, the next picture would be drawn a line too low.
_MARGIN = 3
_STATES = {"ready": "green", "starting": "cyan", "retiring": "yellow", "stopping": "yellow"}


class Picture:
    """A view, drawn in the size of the terminal."""

    def __init__(self, view: View, lines: int | None = None) -> None:
        """
        Args:
            lines: how many it may have; those of the terminal if that is None.
        """
        self._view = view
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, ascii_only = options.max_width - _MARGIN, options.ascii_only
        height = console.height if self._lines is None else self._lines
        below = self._below(width, ascii_only)
        rows, more = content.workers(
            self._view, max(_LEAST, height - len(below) - _OTHERS), ascii_only
        )
        parts: list[RenderableType] = [_one_line(content.title(self._view), "bold")]
        if rows:
            parts.append(self._workers(rows))
        if more:
            parts.append(_one_line(f"and {more} more", "dim"))
        # Not a Padding: it would fill the margin, and leave the cursor at its end.
        inner = options.update_width(max(1, width))
        yield from console.render(Group(*parts, "", *below), inner)

    def _workers(self, rows: list[tuple[str, ...]]) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False)
        columns, texts = content.columns(self._view)
        for place, name in enumerate(columns):
            table.add_column(name, justify="left" if place < texts else "right", no_wrap=True)
        for *node, pid, lane, state, slots, queued, done, failed, busy, lag, memory in rows:
            table.add_row(
                *node,
                pid,
                lane,
                Text(state, _STATES.get(state, "magenta")),
                Text(slots, "cyan"),
                queued,
                done,
                Text(failed, "" if failed == "0" else "red"),
                busy,
                Text(lag, "" if lag == "-" else "bold red"),
                memory,
            )
        return table

    def _below(self, width: int, ascii_only: bool) -> list[Text]:
        drawn = content.throughput(self._view, max(10, min(60, width - 24)), ascii_only)
        lines = [_line("calls/s", drawn, "green")]
        lines += [_line(name, what) for name, what in content.calls(self._view)]
        for section in content.sections(self._view, max(20, width - 14)):
            lines.append(_one_line(section.heading, "dim"))
            style = "red" if section.heading.startswith("failures") else ""
            lines += [
                Text.assemble((f"{number:>12}  ", "bold"), (what, style), no_wrap=True)
                for number, what in section.lines
            ]
        return lines


class Pictures:
    """The views of a program's executors."""

    def __init__(self, views: Sequence[View], whole: bool = False) -> None:
        """
        Args:
            whole: they may be higher than the terminal.
        """
        self._views = views
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = _WHOLE if self._whole else console.height // max(1, len(self._views))
        for view in self._views:
            if view is not self._views[0]:
                yield ""
            yield Picture(view, lines)


def _one_line(text: str, style: str) -> Text:
    return Text(text, style, overflow="ellipsis", no_wrap=True)


def _line(name: str, what: str, style: str = "") -> Text:
    return Text.assemble((f"{name:<8}", "dim"), (what, style), overflow="ellipsis", no_wrap=True)
