"""options(retries=, retry_on=, backoff=) and RetryAfter: what failed runs again, and holds no slot
till then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest

import hybridexec
from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make, make_executor
from .helpers import run_script, square, wait_until

pytestmark = pytest.mark.every_lane

#: A wait that no test sits out.
LONG = 3600.0


class Flaky(Exception):
    """What calls here raise."""


@pytest.fixture(scope="module")
def executor() -> Iterator[HybridExecutor]:
    """Of the default start method: the others matter where types travel."""
    with make_executor(None) as made:
        yield made


def attempt(path: Path) -> int:
    """Note one more run of this call; how many there were."""
    with open(path, "ab") as file:
        file.write(b"x")
        return file.tell()


def succeed_at(path: Path, number: int, error: type[BaseException] = Flaky) -> int:
    made = attempt(path)
    if made < number:
        raise error(f"run {made}")
    return made


def succeed_in_time_at(path: Path, number: int) -> int:
    made = attempt(path)
    if made < number:
        time.sleep(60)
    return made


def fail_if_odd(path: Path, n: int) -> int:
    attempt(path / str(n))
    if n % 2:
        raise Flaky(n)
    return n


def fail_largely(path: Path) -> None:
    raise Flaky(attempt(path), "x" * 200_000)


def runs(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_call_is_tried_until_it_succeeds(executor: HybridExecutor, tmp_path: Path) -> None:
    view = executor.options(retries=5, backoff=0.01)
    assert view.submit(succeed_at, tmp_path / "a", 3).result(timeout=30) == 3
    assert list(view.map(succeed_at, [tmp_path / str(n) for n in range(5)], range(1, 6))) == [
        *range(1, 6)
    ]


def test_the_last_error_tells_of_the_runs_before(executor: HybridExecutor, tmp_path: Path) -> None:
    future = executor.options(retries=2, backoff=0.01).submit(succeed_at, tmp_path / "a", 9)
    error = future.exception(timeout=30)
    assert type(error) is Flaky
    assert str(error) == "run 3"
    notes = [note for note in error.__notes__ if note.startswith("Run ")]
    assert len(notes) == 2
    assert [note.partition(": ")[0] for note in notes] == [
        "Run 1 of this call ended with",
        "Run 2 of this call ended with",
    ]
    assert ["Flaky: run 1" in notes[0], "Flaky: run 2" in notes[1]] == [True, True]


def test_calls_run_once_unless_told_otherwise(executor: HybridExecutor, tmp_path: Path) -> None:
    future = executor.submit(succeed_at, tmp_path / "a", 2)
    assert isinstance(future.exception(timeout=30), Flaky)
    assert runs(tmp_path / "a") == 1


def test_outcomes_count_attempts(executor: HybridExecutor, tmp_path: Path) -> None:
    view = executor.options(retries=2, backoff=0.01)
    outcomes = {o.item[1]: o for o in view.outcomes(fail_if_odd, [tmp_path] * 6, range(6))}
    assert {n: o.attempts for n, o in outcomes.items()} == {n: 3 if n % 2 else 1 for n in range(6)}
    assert {n: runs(tmp_path / str(n)) for n in range(6)} == {
        n: 3 if n % 2 else 1 for n in range(6)
    }
    assert [n for n, o in outcomes.items() if o.ok] == [n for n in outcomes if n % 2 == 0]


@pytest.mark.parametrize(
    ("retry_on", "error", "expected"),
    [
        (Flaky, Flaky, 2),
        ((KeyError, Flaky), Flaky, 2),
        (KeyError, Flaky, 1),
        (OSError, ConnectionError, 2),
        (Exception, SystemExit, 1),
        (SystemExit, SystemExit, 2),
        ((), Flaky, 1),
    ],
)
def test_only_errors_of_the_types_named_are_tried_again(
    executor: HybridExecutor,
    tmp_path: Path,
    retry_on: type[BaseException] | tuple[type[BaseException], ...],
    error: type[BaseException],
    expected: int,
) -> None:
    view = executor.options(retries=1, retry_on=retry_on, backoff=0)
    failed = view.submit(succeed_at, tmp_path / "a", 9, error).exception(timeout=30)
    assert type(failed) is error
    assert runs(tmp_path / "a") == expected


def test_a_call_whose_time_is_up_may_be_tried_again(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    view = executor.options(timeout=0.2, retries=2, backoff=0.01)
    # A run that is stopped at its very beginning is not counted there.
    assert view.submit(succeed_in_time_at, tmp_path / "a", 2).result(timeout=30) in (2, 3)
    with pytest.raises(CallTimeout) as caught:
        view.submit(succeed_in_time_at, tmp_path / "b", 9).result(timeout=30)
    assert sum("CallTimeout" in note for note in caught.value.__notes__) == 2
    assert runs(tmp_path / "b") <= 3
    view = view.options(retry_on=Flaky)
    with pytest.raises(CallTimeout):
        view.submit(succeed_in_time_at, tmp_path / "c", 2).result(timeout=30)
    assert runs(tmp_path / "c") == 1


def test_an_error_too_large_for_a_frames_head_is_tried_again_too(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    future = executor.options(retries=1, backoff=0).submit(fail_largely, tmp_path / "a")
    error = future.exception(timeout=30)
    assert isinstance(error, Flaky)
    assert error.args == (2, "x" * 200_000)


class _Refusing(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("no")


class Refusing(Exception, metaclass=_Refusing):
    """A type that cannot be asked whether an error is of it."""


def test_a_type_that_cannot_be_used_ends_the_call_and_says_so(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1, concurrency=1)
    view = executor.options(retries=3, retry_on=Refusing, backoff=0)
    error = view.submit(succeed_at, tmp_path / "a", 9).exception(timeout=30)
    assert isinstance(error, Flaky)
    assert any("retry_on could not be used" in note for note in error.__notes__)
    assert executor.submit(square, 3).result(timeout=30) == 9


@pytest.mark.every_lane(but=("cluster",))  # which tells of what runs a little later
def test_a_call_that_waits_to_be_tried_again_holds_no_slot(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1, concurrency=1)
    waiting = executor.options(retries=1, backoff=LONG).submit(succeed_at, tmp_path / "a", 2)
    wait_until(lambda: runs(tmp_path / "a") == 1)
    assert [executor.submit(square, n).result(timeout=30) for n in range(5)] == [0, 1, 4, 9, 16]
    assert not waiting.done()
    assert not waiting.running()
    waiting.cancel()


def test_a_call_that_waits_to_be_tried_again_can_be_cancelled(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    waiting = executor.options(retries=1, backoff=LONG).submit(succeed_at, tmp_path / "a", 2)
    wait_until(lambda: executor.stats().retried == 1)
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(timeout=0)
    executor.shutdown()  # does not wait for it
    assert runs(tmp_path / "a") == 1


def test_shutdown_waits_for_calls_that_are_to_be_tried_again(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    future = executor.options(retries=1, backoff=0.3).submit(succeed_at, tmp_path / "a", 2)
    executor.shutdown()
    assert future.result(timeout=0) == 2


def test_shutdown_may_cancel_calls_that_are_to_be_tried_again(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    view = executor.options(retries=1, backoff=LONG)
    future = view.submit(succeed_at, tmp_path / "a", 2)
    stream = view.outcomes(succeed_at, [tmp_path / "b"], [2])
    outcome = []
    consumer = threading.Thread(target=lambda: outcome.extend(stream))
    consumer.start()
    wait_until(lambda: executor.stats().retried == 2)
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()
    consumer.join(30)
    (ended,) = outcome
    assert isinstance(ended.error, CancelledError)
    assert ended.attempts == 1


def test_many_calls_that_fail_together_all_come_back(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    view = executor.options(retries=3, backoff=0.01)
    futures = [view.submit(succeed_at, tmp_path / str(n), n % 4 + 1) for n in range(100)]
    assert not wait(futures, timeout=60).not_done
    assert [future.result() for future in futures] == [n % 4 + 1 for n in range(100)]


def double(error: BaseException, attempt: int) -> float:
    """Seconds until a retry of ``tell_attempts``, in which the error's own type is known."""
    assert isinstance(error, Counted)
    error.file.write_text(error.file.read_text() + f" {attempt}")
    return 0.01 * attempt


class Counted(Exception):
    """Does not travel well."""

    def __init__(self, *, file: Path) -> None:
        super().__init__()
        self.file = file


def tell_attempts(path: Path, number: int) -> int:
    made = attempt(path)
    if made < number:
        file = path.with_suffix(".told")
        file.touch()
        raise Counted(file=file)
    return made


def come_back(path: Path, seconds: float) -> float:
    """Ask to be tried again once; the seconds until that came."""
    if attempt(path) == 1:
        path.with_suffix(".began").write_text(repr(time.monotonic()))
        raise hybridexec.RetryAfter(seconds) from KeyError("busy")
    return time.monotonic() - float(path.with_suffix(".began").read_text())


def test_backoff_is_asked_in_the_worker(executor: HybridExecutor, tmp_path: Path) -> None:
    view = executor.options(retries=5, backoff=double)
    paths = [tmp_path / str(n) for n in range(3)]
    assert list(view.map(tell_attempts, paths, [4, 1, 2])) == [4, 1, 2]
    assert (tmp_path / "0.told").read_text() == " 1 2 3"
    assert (tmp_path / "2.told").read_text() == " 1"


def test_a_backoff_that_is_wrong_fails_the_call(executor: HybridExecutor, tmp_path: Path) -> None:
    view = executor.options(retries=5, backoff=lambda error, attempt: -attempt)
    error = view.submit(succeed_at, tmp_path / "a", 3).exception(timeout=30)
    assert isinstance(error, ValueError)
    assert str(error).startswith("what backoff returns must be a finite number of seconds")
    assert "Flaky: run 1" in str(error.__cause__)
    assert runs(tmp_path / "a") == 1


def test_after_a_timeout_nobody_is_asked(executor: HybridExecutor, tmp_path: Path) -> None:
    view = executor.options(timeout=0.2, retries=2, backoff=double)
    # A run that is stopped at its very beginning is not counted there.
    assert view.submit(succeed_in_time_at, tmp_path / "a", 2).result(timeout=30) in (2, 3)


def test_a_call_says_itself_when_to_try_it_again(executor: HybridExecutor, tmp_path: Path) -> None:
    view = executor.options(retries=1, retry_on=KeyError, backoff=LONG)
    assert view.submit(come_back, tmp_path / "a", 0.2).result(timeout=30) >= 0.2
    error = executor.submit(come_back, tmp_path / "b", 0.2).exception(timeout=30)
    assert isinstance(error, hybridexec.RetryAfter)
    assert error.seconds == 0.2
    assert "KeyError: 'busy'" in str(error.__cause__)


MAIN = """
import multiprocessing, os, sys
from hybridexec import HybridExecutor


class Mine(Exception):
    pass

PAUSE = 0.01

def pause(error, attempt):
    assert isinstance(error, Mine)
    return PAUSE * attempt

def flaky(path):
    with open(path, "ab") as file:
        file.write(b"x")
        if file.tell() < 3:
            raise Mine(file.tell())
        return file.tell()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    with HybridExecutor(1, mp_context=context) as executor:
        view = executor.options(retries=5, retry_on=Mine, backoff=pause)
        print(view.submit(flaky, sys.argv[1]).result(timeout=30))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_a_type_of_the_scripts_own(tmp_path: Path, method: str) -> None:
    done = run_script(tmp_path / "script.py", MAIN, tmp_path / "runs", method)
    assert done.stdout == "3\n"


def test_a_type_that_only_travels_by_value(tmp_path: Path) -> None:
    # A program read from standard input cannot be imported by anybody, as a notebook cannot.
    home = str(Path(hybridexec.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-", str(tmp_path / "runs"), "forkserver"],
        input=MAIN,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": home},
    )
    assert done.stdout == "3\n", done.stderr
