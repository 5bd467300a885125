"""What is told to bars of tqdm. For tasks of rich see tests/integration/test_progress_rich.py."""

from __future__ import annotations

import io
from typing import Any

import tqdm

from hybridexec.displays.bars import Bar

from .counts import progress


def tqdm_bar(**arguments: Any) -> tuple[tqdm.tqdm, io.StringIO]:
    shown = io.StringIO()
    return tqdm.tqdm(file=shown, mininterval=0, ncols=80, **arguments), shown


def last_line(shown: io.StringIO) -> str:
    return shown.getvalue().rstrip("\n").rpartition("\r")[2]


def test_a_bar_of_ours_shows_done_failed_and_retried_and_is_closed() -> None:
    bar, shown = tqdm_bar()
    display = Bar(bar, ours=True)
    display.show(progress(3, total=10), last=False)
    assert "3/10" in last_line(shown)
    display.show(progress(6, total=10, failed=1), last=False)
    assert "6/10" in last_line(shown)
    assert last_line(shown).endswith("1 failed]")
    display.show(progress(10, total=10, failed=2, retried=3), last=True)
    assert shown.getvalue().endswith("2 failed, 3 retried]\n")
    assert bar.disable


def test_a_bar_moves_even_if_nothing_ends() -> None:
    bar, shown = tqdm_bar()
    display = Bar(bar, ours=True)
    display.show(progress(3, total=10), last=False)
    before = len(shown.getvalue())
    display.show(progress(3, total=10), last=False)
    assert len(shown.getvalue()) > before
    bar.close()


def test_a_users_bar_is_left_open_and_counts_on() -> None:
    bar, shown = tqdm_bar()
    Bar(bar, ours=False).show(progress(10, total=10), last=True)
    assert (bar.n, bar.total, bar.disable) == (10, 10, False)
    assert "10/10" in last_line(shown)
    second = Bar(bar, ours=False)
    second.show(progress(2, total=5), last=False)
    assert (bar.n, bar.total) == (12, 15)
    bar.close()


def test_a_users_bar_for_more_keeps_its_length() -> None:
    bar, _ = tqdm_bar(total=100, initial=20)
    display = Bar(bar, ours=False)
    display.show(progress(10, total=10), last=True)
    assert (bar.n, bar.total) == (30, 100)
    bar.close()


def test_a_users_bar_is_drawn_as_often_as_that_wants() -> None:
    shown = io.StringIO()
    bar = tqdm.tqdm(file=shown, mininterval=1000, total=10)
    before = shown.getvalue()
    display = Bar(bar, ours=False)
    for done in range(10):
        display.show(progress(done, total=10), last=False)
    assert shown.getvalue() == before
    display.show(progress(10, total=10), last=True)
    assert "10/10" in last_line(shown)
    bar.close()


def test_when_the_length_becomes_known_the_clock_goes_on() -> None:
    bar, _ = tqdm_bar()
    began = bar.start_t
    display = Bar(bar, ours=False)
    display.show(progress(3), last=False)
    assert bar.total is None
    display.show(progress(6, total=10), last=False)
    assert (bar.n, bar.total, bar.start_t) == (6, 10, began)
    bar.close()


def test_a_bar_that_is_turned_off_stays_off() -> None:
    bar, shown = tqdm_bar(disable=True)
    Bar(bar, ours=False).show(progress(3, total=10), last=True)
    assert not shown.getvalue()
