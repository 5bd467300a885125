"""The page in a browser, live and as a file: it has what happened, and nothing goes wrong on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from browser import Look, chromium

from hybridexec import HybridExecutor
from hybridexec.events import WorkerBlocked

pytestmark = pytest.mark.slow  # each starts a browser

#: Where on the page a plot shows something; scrolls there.
PLACE = """([name, x, y]) => {
    const view = Bokeh.index.get_by_id(Bokeh.documents[0].get_model_by_name(name).id)
    view.el.scrollIntoView()
    const area = view.canvas_view.el.getBoundingClientRect()
    const { x_scale, y_scale } = view.frame
    return [area.x + x_scale.compute(x), area.y + y_scale.compute(y)]
}"""
#: What a page must not run.
HOSTILE = "<script>alert('run')</script><img src=x onerror=alert('run')>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def look(browser: Any) -> Iterator[Look]:
    page = browser.new_page()
    look = Look(page)
    yield look
    look.leave()
    assert not look.complaints


def visit(number: int) -> int:
    time.sleep(0.3)
    if number % 10 == 3:
        raise ValueError(f"{HOSTILE} {number}")
    return number


def hostile(text: str) -> None:
    time.sleep(0.5)
    raise KeyError(text)


def die() -> None:
    os._exit(3)


def run(executor: HybridExecutor) -> None:
    """Calls that end in several ways, and run for long enough to be seen."""
    assert len(list(executor.outcomes(visit, range(100)))) == 100
    executor.submit(hostile, HOSTILE).exception(timeout=30)
    executor.submit(die).exception(timeout=30)


def check(look: Look) -> None:
    """That all of it is on the page."""
    assert sum(look.column("rates", "failed")) > 0
    assert max(look.column("rates", "total")) > 0
    assert max(max(row) for row in look.column("workers", "running")) > 1
    assert max(row[-1] for row in look.column("workers", "rss")) > 1
    assert "exit code 3" in look.column("ends", "cause")
    assert sum(look.column("runs", "count")) >= 100
    assert sum(look.column("waits", "count")) >= 100
    text = look.text
    for expected in ("submitted", "102", "ValueError", "KeyError", "WorkerLost", "test_pages.py"):
        assert expected in text
    assert HOSTILE in text, "it is shown, and not run"
    assert "Traceback (most recent call last)" in text
    assert "hostile(" in text, "among the slowest calls"


def test_a_live_page_follows_the_executor(look: Look) -> None:
    with HybridExecutor(2, concurrency=10) as executor, executor.dashboard() as dashboard:
        look.open(dashboard.url)
        assert "No call has failed." in look.text
        run(executor)
        look.wait_for("ends", "cause", "rows.length == 1")
        look.wait_for("runs", "count", "rows.reduce((sum, each) => sum + each, 0) >= 100")
        for shown in ("102", "ValueError", "KeyError", "WorkerLost"):  # tables come after plots
            look.page.get_by_text(shown, exact=True).first.wait_for()
        check(look)
        look.leave()
    assert {url.partition("/static/")[0] for url in look.asked} <= {
        dashboard.url,
        dashboard.url.rstrip("/"),
    }


def test_each_tab_is_a_page_of_its_own(browser: Any, look: Look) -> None:
    with HybridExecutor(1) as executor, executor.dashboard() as dashboard:
        other = Look(browser.new_page())
        for each in (look, other):
            each.open(dashboard.url)
        assert list(executor.map(abs, range(100))) == list(range(100))
        for each in (look, other):
            each.wait_for("runs", "count", "rows.reduce((sum, each) => sum + each, 0) == 100")
        other.leave()
        assert list(executor.map(abs, range(100))) == list(range(100))
        look.wait_for("runs", "count", "rows.reduce((sum, each) => sum + each, 0) == 200")
        look.leave()
    assert not other.complaints


def test_new_numbers_in_a_row_are_drawn(look: Look) -> None:
    with HybridExecutor(1) as executor, executor.dashboard() as dashboard:
        list(executor.outcomes(visit, [3, 3]))
        look.open(dashboard.url)
        look.page.get_by_text("ValueError", exact=True).wait_for()
        list(executor.outcomes(visit, [3] * 654))
        look.page.get_by_text("656", exact=True).first.wait_for()
        look.leave()


def test_a_report_is_the_same_page_in_a_file(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    with HybridExecutor(2, concurrency=10) as executor:
        run(executor)
    executor.report(path)
    look.open(path.as_uri())
    check(look)
    assert look.asked == [path.as_uri()], "it needs nothing else"


def test_an_executor_without_calls_has_a_page_too(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    with HybridExecutor(2) as executor:
        executor.report(str(path))
    look.open(path.as_uri())
    assert "No call has failed." in look.text
    assert look.column("rates", "total") in ([], [0, 0])


def test_the_traceback_of_a_chosen_row_is_shown(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    with HybridExecutor(1) as executor:
        list(executor.outcomes(visit, [3, 3]))
        executor.submit(hostile, HOSTILE).exception(timeout=30)
        executor.options(timeout=30).report(path)
    look.open(path.as_uri())
    assert ", in visit" in look.text
    assert ", in hostile" not in look.text
    look.page.get_by_text("KeyError", exact=True).click()
    look.page.get_by_text(", in hostile").wait_for()


def test_dark_readers_get_a_dark_page(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    with HybridExecutor(1) as executor:
        executor.report(path)
    page = browser.new_page(color_scheme="dark")
    look = Look(page)
    look.open(path.as_uri())
    colour = (
        "[...Bokeh.documents[0]._all_models.values()].find((m) => m.type == 'Title').text_color"
    )
    page.wait_for_function(f"{colour} === '#e6edf3'")
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{colour} === '#24292f'")
    look.leave()
    assert not look.complaints


def block(until: str, text: str) -> None:
    while not os.path.exists(until):
        pass


def test_what_is_pointed_at_is_shown_as_text(look: Look, tmp_path: Path) -> None:
    path, until, seen = tmp_path / "run.html", tmp_path / "until", threading.Event()
    with HybridExecutor(1, hub_lag_warning=0.3) as executor:
        executor.observe(lambda event: seen.set(), events=WorkerBlocked)
        blocked = executor.submit(block, str(until), "<img src=x onerror=alert(1)>")
        assert seen.wait(60)
        until.touch()
        blocked.result(timeout=30)
    executor.report(path)
    look.open(path.as_uri())
    (start,), (end,) = look.column("blocked", "start"), look.column("blocked", "end")
    place = look.page.evaluate(PLACE, ["lives", (start + end) / 2, 0])
    look.page.mouse.move(*place)
    look.page.get_by_text("'<img src=x onerror=alert(1)>')").first.wait_for()
    look.page.get_by_text("hub blocked for").first.wait_for()


def fail_at_times(number: int) -> None:
    if number % 1000 == 7:
        raise ValueError(HOSTILE)


def test_a_million_calls_leave_little(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    us = psutil.Process()
    with HybridExecutor(2) as executor:
        before = 0
        for calls in (100_000, 1_000_000):  # the first for what all runs need
            before = us.memory_info().rss
            assert sum(1 for _ in executor.outcomes(fail_at_times, range(calls))) == calls
        assert us.memory_info().rss - before < 10_000_000
        executor.report(path)
    assert path.stat().st_size < 5_000_000
    look.open(path.as_uri())
    assert sum(look.column("runs", "count")) == 1_100_000
    assert look.column("failures", "count") == [1_100]
