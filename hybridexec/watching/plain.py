"""A view as plain text, with nothing but the standard library.

Thread: any.
"""

from __future__ import annotations

from . import content
from .view import View

#: How many workers are shown.
_MOST = 64


def text(view: View, width: int = 100, ascii_only: bool = False) -> str:
    """The view, in lines that are about ``width`` wide."""
    lines = [content.title(view)]
    rows, more = content.workers(view, _MOST, ascii_only)
    if rows:
        lines += ["", *_table(rows, *content.columns(view))]
    if more:
        lines.append(f"and {more} more")
    said = [("calls/s", content.throughput(view, 60, ascii_only)), *content.calls(view)]
    lines += ["", *(f"{name:<8}{what}" for name, what in said)]
    for section in content.sections(view, width - 14):
        lines += ["", f"{section.heading}:"]
        lines += [f"{number:>12}  {what}" for number, what in section.lines]
    return "\n".join(each.rstrip() for each in lines)


def _table(rows: list[tuple[str, ...]], columns: tuple[str, ...], texts: int) -> list[str]:
    rows = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
