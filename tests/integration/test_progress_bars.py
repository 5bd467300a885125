"""progress= with the real tqdm and the real rich, and what stands on a terminal then."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest
import rich.console
import rich.progress
import tqdm

from hybridexec import HybridExecutor, as_completed

COLUMNS, LINES = 90, 20


def odd_fails(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


@pytest.fixture(scope="module")
def executor() -> Iterator[HybridExecutor]:
    with HybridExecutor(2) as made:
        yield made


def test_a_tqdm_bar(executor: HybridExecutor) -> None:
    shown = io.StringIO()
    with tqdm.tqdm(desc="mine", file=shown, ncols=90) as bar:
        assert len(list(executor.outcomes(odd_fails, range(500), progress=bar))) == 500
        assert (bar.n, bar.total) == (500, 500)
        futures = [executor.submit(odd_fails, n) for n in range(100)]
        assert len(list(as_completed(futures, progress=bar))) == 100
        assert (bar.n, bar.total) == (600, 600)
    assert "mine: 100%" in shown.getvalue()
    assert "600/600" in shown.getvalue()
    assert "250 failed" in shown.getvalue()


def test_a_rich_progress(executor: HybridExecutor) -> None:
    console = rich.console.Console(file=io.StringIO())
    with rich.progress.Progress(console=console) as bars:
        streams = [executor.outcomes(odd_fails, range(n), progress=bars) for n in (50, 100)]
        assert [sum(1 for _ in stream) for stream in streams] == [50, 100]
        assert [(task.completed, task.total) for task in bars.tasks] == [(50, 50), (100, 100)]
        assert [task.fields["failed"] for task in bars.tasks] == [25, 50]


def test_no_thread_of_tqdms_is_left(executor: HybridExecutor) -> None:
    shown = io.StringIO()
    executor.submit(abs, 1).result(timeout=60)
    before = set(threading.enumerate())

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        monitor_interval = 0

    assert sum(executor.map(abs, range(100), progress=Bar(file=shown))) == 4950
    left = set(threading.enumerate()) - before
    # Another worker may be starting.
    assert not {thread.name for thread in left} - {"hybridexec-start"}


# -- on a terminal ------------------------------------------------------------------------------

PROGRAM = """
import os, sys, time
from hybridexec import HybridExecutor, as_completed

def fetch(n):
    time.sleep(0.002 if n < 1000 else 600)
    if n % 100 == 7:
        raise ValueError(n)
    return n

if __name__ == "__main__":
    how, what = sys.argv[1:]
    if how == "line":
        sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
    progress = True
    if how == "rich":
        from rich.progress import Progress
        progress = Progress()
    print("before")
    with HybridExecutor(2, concurrency=5) as executor:
        if what == "all":
            print("got", sum(1 for _ in executor.outcomes(fetch, range(500), progress=progress)))
        elif what == "futures":
            futures = [executor.submit(fetch, n) for n in range(500)]
            print("got", sum(1 for _ in as_completed(futures, progress=progress)))
        elif what == "lazy":
            items = (n for n in range(500))
            print("got", sum(1 for _ in executor.outcomes(fetch, items, progress=progress)))
        elif what == "error":
            try:
                # The last do not end: the bar is not full, however late the error is seen.
                numbers = [*range(490), *range(1000, 1010)]
                list(executor.map(fetch, numbers, progress=progress))
            except ValueError as error:
                print("error", error)
                executor.cancel_all()
        elif what == "break":
            for outcome in executor.outcomes(fetch, range(500), progress=progress):
                if outcome.item == 250:
                    break
        elif what == "ctrl-c":
            try:
                for outcome in executor.outcomes(fetch, range(10**6), progress=progress):
                    if outcome.item == 250:
                        os.write(1, b"ready")
            except KeyboardInterrupt:
                print("stopped")
    print("after")
"""


def on_terminal(script: Path, how: str, what: str) -> list[str]:
    """What stands on the screen of a terminal in the end."""
    script.write_text(PROGRAM)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (LINES, COLUMNS))
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(
        [sys.executable, str(script), how, what],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        try:
            while chunk := read(ours):
                stream.feed(chunk)
                if b"ready" in chunk:
                    process.send_signal(signal.SIGINT)
        except BaseException:
            process.kill()
            raise
    os.close(ours)
    assert process.returncode == 0, screen.display
    return [line.rstrip() for line in screen.display if line.strip()]


def read(terminal: int) -> bytes:
    """What comes next; nothing once nobody can write any more, which Linux says by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


#: What a bar of 500 calls looks like in the end, five of which failed.
FULL = {
    "tqdm": ("fetch: 100%|", "500/500 [", "call/s, 5 failed]"),
    "line": ("fetch: 500 of 500 done (100 %), 5 failed, ", "/s"),
    "rich": ("fetch 500 done, 5 failed, ", "/s ━━━━━━━━━━", "100%"),
}


def has(line: str, parts: tuple[str, ...]) -> bool:
    return all(part in line for part in parts)


@pytest.mark.parametrize("how", FULL)
@pytest.mark.parametrize("what", ["all", "lazy"])
def test_a_bar_on_a_terminal(tmp_path: Path, how: str, what: str) -> None:
    before, bar, got, after = on_terminal(tmp_path / "script.py", how, what)
    assert has(bar, FULL[how])
    assert (before, got, after) == ("before", "got 500", "after")


@pytest.mark.parametrize("how", FULL)
def test_a_bar_of_futures_on_a_terminal(tmp_path: Path, how: str) -> None:
    before, bar, got, after = on_terminal(tmp_path / "script.py", how, "futures")
    assert has(f"fetch: {bar}" if how != "rich" else f"fetch {bar}", FULL[how])
    assert (before, got, after) == ("before", "got 500", "after")


@pytest.mark.parametrize("how", FULL)
def test_a_bar_that_an_error_ends(tmp_path: Path, how: str) -> None:
    before, bar, error, after = on_terminal(tmp_path / "script.py", how, "error")
    assert re.search(r"[1-9]\d* failed", bar), "others may have failed by then"
    assert "100%" not in bar
    assert (before, error, after) == ("before", "error 7", "after")


@pytest.mark.parametrize("how", FULL)
def test_a_bar_that_a_break_ends(tmp_path: Path, how: str) -> None:
    before, bar, after = on_terminal(tmp_path / "script.py", how, "break")
    assert "failed" in bar
    assert (before, after) == ("before", "after")


@pytest.mark.parametrize("how", FULL)
def test_a_bar_that_ctrl_c_ends(tmp_path: Path, how: str) -> None:
    *_, bar, stopped, after = on_terminal(tmp_path / "script.py", how, "ctrl-c")
    assert has(bar, ("fetch", "failed"))
    assert (stopped, after) == ("stopped", "after")


def test_nothing_is_shown_where_standard_error_is_no_terminal(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), "tqdm", "all"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\ngot 500\nafter\n", "")
