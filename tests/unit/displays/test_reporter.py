"""Who is shown what, and when it ends."""

from __future__ import annotations

import contextvars
import gc
import logging
import threading
import time
from collections.abc import Callable

import pytest

from hybridexec import Progress
from hybridexec.displays.reporter import Reporter
from hybridexec.parent.client.counted import Counts

from .counts import counts


class Source:
    """Counts what it is told to."""

    def __init__(self) -> None:
        self.now = counts()

    def counts(self) -> Counts:
        return self.now


class Display:
    """Keeps what it is shown, and says when."""

    def __init__(self, function: Callable[[Progress], object] = lambda progress: None) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.at: list[float] = []
        self.shown = threading.Event()
        self.thread: threading.Thread | None = None
        self._function = function

    def show(self, progress: Progress, last: bool) -> None:
        self.thread = threading.current_thread()
        self.seen.append((progress.done, last))
        self.at.append(time.monotonic())
        self.shown.set()
        self._function(progress)

    def wait(self) -> None:
        assert self.shown.wait(30)
        self.shown.clear()

    def ended(self) -> None:
        """It was shown for the last time, once, and its thread has ended."""
        while not self.seen[-1:] or not self.seen[-1][1]:
            self.wait()
        assert [last for _, last in self.seen].count(True) == 1
        assert self.thread is not None
        self.thread.join(30)
        assert not self.thread.is_alive()


def begun(display: Display, source: Source) -> Reporter:
    reporter = Reporter(lambda total: display, None)
    reporter.begin(source)
    return reporter


def test_it_shows_while_calls_run_and_once_at_the_end() -> None:
    display, source = Display(), Source()
    reporter = begun(display, source)
    display.wait()
    source.now = counts(7)
    display.wait()
    display.wait()
    source.now = counts(9)
    reporter.end()
    assert display.seen[-1] == (9, True)
    display.ended()
    reporter.end()
    assert (0, False) in display.seen
    assert (7, False) in display.seen
    assert min(b - a for a, b in zip(display.at, display.at[1:-1], strict=False)) >= 0.099


@pytest.mark.parametrize("cancelled", [0, 3])
def test_it_ends_by_itself_when_all_calls_have(cancelled: int) -> None:
    display, source = Display(), Source()
    reporter = begun(display, source)
    source.now = counts(10, cancelled=cancelled, total=10 + cancelled)
    display.ended()
    assert display.seen[-1] == (10, True)
    reporter.end()


def test_what_was_over_at_once_is_shown_once() -> None:
    display, source = Display(), Source()
    source.now = counts(10, total=10)
    begun(display, source).end()
    assert display.seen == [(10, True)]


def test_one_that_has_not_begun_shows_nothing() -> None:
    Reporter(lambda total: pytest.fail("not begun"), None).end()


def test_it_ends_when_the_results_are_dropped_before_all_calls_were_made() -> None:
    class Results:
        pass

    display, source, results = Display(), Source(), Results()
    reporter = begun(display, source)
    reporter.tie(results)
    display.wait()
    del results
    gc.collect()
    display.ended()


def test_it_goes_on_when_the_results_are_dropped_and_all_calls_were_made() -> None:
    class Results:
        pass

    display, source, results = Display(), Source(), Results()
    source.now = counts(1, total=2)
    reporter = begun(display, source)
    reporter.tie(results)
    del results
    gc.collect()
    display.wait()
    display.wait()
    source.now = counts(2, total=2)
    display.ended()
    assert display.seen[-1] == (2, True)


def fail(progress: Progress) -> None:
    raise ValueError("no paper")


@pytest.mark.parametrize("error", [ValueError("no paper"), SystemExit(3)])
def test_what_a_display_raises_is_logged_and_it_is_left_alone(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(progress: Progress) -> None:
        raise error

    display = Display(fail)
    reporter = begun(display, Source())
    display.wait()
    reporter.end()
    assert display.seen == [(0, False)]
    (record,) = caplog.records
    assert record.name == "hybridexec"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_display_that_cannot_be_made_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def make(total: int | None) -> Display:
        raise BrokenPipeError

    reporter = Reporter(make, None)
    reporter.begin(Source())
    reporter.end()
    assert len(caplog.records) == 1


def test_a_thread_that_cannot_be_had_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    begun(Display(), Source()).end()
    assert len(caplog.records) == 1


def test_the_display_may_end_the_iteration() -> None:
    def end(progress: Progress) -> None:
        reporter.end()

    display = Display(end)
    reporter = Reporter(lambda total: display, None)
    reporter.begin(Source())
    display.ended()
    assert len(display.seen) == 2


def test_whoever_closes_waits_for_the_end_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridexec.displays.reporter._PATIENCE", 0.01)
    gate = threading.Event()
    display = Display(lambda progress: gate.wait(30))
    reporter = begun(display, Source())
    display.wait()
    for error in (GeneratorExit(), KeyboardInterrupt()):
        try:
            raise error
        except BaseException:
            reporter.end()
    assert len(display.seen) == 1
    gate.set()
    reporter.end()
    display.ended()


def test_a_display_that_takes_long_is_shown_less_often() -> None:
    def compute(progress: Progress) -> None:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    display, source = Display(compute), Source()
    reporter = begun(display, source)
    for _ in range(3):
        display.wait()
    reporter.end()
    assert display.at[2] - display.at[1] > 0.5


def test_it_sees_the_callers_context() -> None:
    name = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []
    name.set("caller")
    display = Display(lambda progress: seen.append(name.get()))
    begun(display, Source()).end()
    assert set(seen) == {"caller"}
