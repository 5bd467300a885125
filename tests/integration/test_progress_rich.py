"""What is told to tasks of rich."""

from __future__ import annotations

import io
from typing import Any

import pytest
import rich.console
import rich.live
import rich.progress

from hybridexec import Progress
from hybridexec.displays.bars import Task
from hybridexec.displays.choice import maker


def progress(done: int, total: int | None = None, failed: int = 0, retried: int = 0) -> Progress:
    return Progress(total, done, failed, retried, running=0, per_second=5.0, eta=None)


def test_a_rich_progress_is_known() -> None:
    console = rich.console.Console(file=io.StringIO())
    with rich.progress.Progress(console=console) as bars:
        make = maker(bars, "fetch")
        assert make is not None
        assert isinstance(make(None), Task)


def rich_progress(**arguments: Any) -> tuple[rich.progress.Progress, io.StringIO]:
    shown = io.StringIO()
    console = rich.console.Console(file=shown, force_terminal=True, width=100, height=50)
    return rich.progress.Progress(console=console, **arguments), shown


def test_a_task_is_added_updated_and_stopped() -> None:
    bars, shown = rich_progress(auto_refresh=False)
    with bars:
        display = Task(bars, "fetch", None)
        (task,) = bars.tasks
        assert (task.total, task.completed) == (None, 0)
        display.show(progress(3, total=10, failed=1, retried=2), last=False)
        assert (task.total, task.completed) == (10, 3)
        assert task.description == "fetch 3 done, 1 failed, 2 retried, 5.00/s"
        assert (task.fields["failed"], task.fields["retried"]) == (1, 2)
        assert "30%" in shown.getvalue()  # it is not refreshed by itself
        display.show(progress(10, total=10), last=True)
        assert task.finished
        assert task.stop_time is not None
        assert bars.live.is_started


def test_one_that_was_not_started_is_shown_meanwhile() -> None:
    bars, shown = rich_progress()
    display = Task(bars, "[fetch]", None)
    assert bars.live.is_started
    display.show(progress(10, total=10), last=True)
    assert not bars.live.is_started
    assert "[fetch] 10 done" in shown.getvalue()


def test_what_it_drew_for_good_is_not_drawn_again() -> None:
    bars, _ = rich_progress()
    for name in ("first", "second"):
        Task(bars, name, None).show(progress(10, total=10), last=True)
    assert [task.visible for task in bars.tasks] == [False, True]
    assert [task.completed for task in bars.tasks] == [10, 10]


def test_one_that_is_a_part_of_something_else_is_not_started() -> None:
    bars, shown = rich_progress()
    with rich.live.Live(bars, console=bars.console) as live:
        display = Task(bars, "fetch", None)
        display.show(progress(10, total=10), last=True)
        live.refresh()
    assert "10 done" in shown.getvalue()


@pytest.mark.parametrize("started", [True, False])
def test_columns_of_the_users_may_show_the_counts(started: bool) -> None:
    shown = io.StringIO()
    console = rich.console.Console(file=shown, force_terminal=True, width=100)
    columns = "{task.fields[failed]} of {task.completed}", "{task.fields[per_second]:.1f}"
    bars = rich.progress.Progress(*columns, console=console)
    if started:
        bars.start()
    Task(bars, "fetch", None).show(progress(10, total=10, failed=4), last=True)
    bars.stop()
    assert "4 of 10" in shown.getvalue()
    assert "5.0" in shown.getvalue()
