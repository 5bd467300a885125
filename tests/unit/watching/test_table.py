"""A view as rich draws it."""

from __future__ import annotations

import io

from rich.console import Console

from hybridexec.watching.table import Picture

from .views import view


def drawn(workers: int, width: int = 100, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(Picture(view(workers)))
    return console.export_text().splitlines()


def test_all_is_in_it() -> None:
    shown = "\n".join(drawn(2))
    for part in (
        "process 4711",
        "1001    greenlet  ready",
        "▄█ 12/s",
        "p99 300 ms",
        "9.5 s  fetch",
    ):
        assert part in shown
    assert "no [bold]such[/bold] host" in shown, "it is no markup"
    assert "\x1b" not in shown


def test_it_fits_into_the_terminal() -> None:
    for height in (24, 30, 50):
        lines = drawn(1000, height=height)
        assert len(lines) < height
        assert any("1999" in line for line in lines)
        assert any(line.rstrip().endswith(" more") for line in lines)


def test_a_narrow_terminal_cuts_lines() -> None:
    lines = drawn(3, width=50)
    assert len(lines) < 24
    assert all(len(line) <= 50 for line in lines)
