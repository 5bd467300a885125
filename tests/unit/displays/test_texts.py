"""Lines of text."""

from __future__ import annotations

import io

import pytest

from hybridexec import Progress
from hybridexec.displays.texts import Line, Told

from .counts import progress


def test_a_line_is_written_over_itself() -> None:
    stream = io.StringIO()
    line = Line(stream, "fetch")
    line.show(progress(8, total=10, failed=3), last=False)
    line.show(progress(9, total=10), last=False)
    line.show(progress(10, total=10), last=True)
    first, second, third = stream.getvalue().split("\r")[1:]
    assert first == "fetch: 8 of 10 done (80 %), 3 failed, 5.00/s"
    assert second.rstrip() == "fetch: 9 of 10 done (90 %), 5.00/s"
    assert len(second) == len(first)
    assert third == "fetch: 10 of 10 done (100 %), 5.00/s\n"


def test_a_line_without_a_name() -> None:
    stream = io.StringIO()
    Line(stream, "").show(progress(8), last=True)
    assert stream.getvalue() == "\r8 done, 5.00/s\n"


def test_a_line_fits_into_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    Line(stream, "fetch").show(progress(8, total=10), last=False)
    assert stream.getvalue() == "\rfetch: 8 of 10 done"


def test_a_callable_is_given_the_progress() -> None:
    got: list[Progress] = []
    Told(got.append).show(progress(8), last=False)
    assert got == [progress(8)]
