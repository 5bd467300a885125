"""progress=: what a callable is told, and that it is told once at the end, however that comes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor, Outcome, Progress, as_completed

from .conftest import Make
from .helpers import Gate, fail_on, identity, run_script, square, start_script, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


class Seen(list[Progress]):
    """Keeps all that it is told; must be told once at the end, which the test says has come."""

    def __call__(self, progress: Progress) -> None:
        self.append(progress)
        self.thread = threading.current_thread()

    def ended(self, done: int, total: int | None, failed: int = 0) -> None:
        count = len(self)
        last = self[-1]
        assert (last.done, last.total, last.failed) == (done, total, failed)
        self.thread.join(30)
        assert not self.thread.is_alive()
        assert len(self) == count
        assert all(a.done <= b.done for a, b in itertools.pairwise(self))
        assert [(p.done, p.total) for p in self].count((total, total)) <= 1


@pytest.fixture
def seen() -> Seen:
    return Seen()


def odd_fails(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


# -- all ways to call -----------------------------------------------------------------------------


def test_map(executor: HybridExecutor, seen: Seen) -> None:
    results = executor.map(square, range(5000), chunksize=7, progress=seen)
    assert list(results) == [n * n for n in range(5000)]
    seen.ended(5000, 5000)
    assert seen[-1].eta == 0.0
    assert seen[-1].per_second > 0
    assert seen[-1].running == 0


def test_map_unordered(executor: HybridExecutor, seen: Seen) -> None:
    results = executor.map_unordered(odd_fails, range(3000), return_exceptions=True, progress=seen)
    assert len(list(results)) == 3000
    seen.ended(3000, 3000, failed=1500)


def test_outcomes_through_a_view(executor: HybridExecutor, seen: Seen) -> None:
    view = executor.options(timeout=60)
    outcomes = list(view.outcomes(odd_fails, range(1000), buffersize=50, progress=seen))
    assert len(outcomes) == 1000
    seen.ended(1000, 1000, failed=500)


def test_futures(executor: HybridExecutor, seen: Seen) -> None:
    futures = [executor.submit(odd_fails, number) for number in range(1000)]
    assert set(as_completed(futures, progress=seen)) == set(futures)
    seen.ended(1000, 1000, failed=500)


class Counting(HybridExecutor):
    """Expects all calls to go through ``submit``."""

    submitted = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("bound", [None, 7])
@pytest.mark.parametrize("items", [range(200), iter(range(200))])
def test_a_map_through_submit(seen: Seen, bound: int | None, items: Any) -> None:
    with Counting(2) as executor:
        results = executor.map(identity, items, buffersize=bound, progress=seen)
        assert len(list(results)) in (0, 200)  # the iterator is used once
    if executor.submitted:
        seen.ended(200, 200)


# -- totals ---------------------------------------------------------------------------------------


def test_a_lazy_input_has_no_total_until_it_is_read(
    executor: HybridExecutor, seen: Seen, gate: Gate
) -> None:
    def items() -> Iterator[str]:
        yield "first"
        wait_until(lambda: len(seen) > 1)
        yield "second"

    gate.open()
    results = executor.map_unordered(gate.wait, items(), buffersize=1, progress=seen)
    assert sorted(map(str, results)) == ["first", "second"]
    assert seen[0].total is None
    assert seen[0].eta is None
    seen.ended(2, 2)


def test_the_shortest_of_several_iterables_counts(executor: HybridExecutor, seen: Seen) -> None:
    items = itertools.repeat(3), range(50), itertools.count(1)
    assert len(list(executor.outcomes(pow, *items, progress=seen))) == 50
    seen.ended(50, 50)


def test_no_items(executor: HybridExecutor, seen: Seen) -> None:
    assert list(executor.map(square, [], progress=seen)) == []
    assert seen == [Progress(0, 0, 0, 0, 0, 0.0, 0.0)]


# -- what moves, and when -------------------------------------------------------------------------


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_it_moves_while_the_consumer_waits_and_tells_what_runs(
    executor: HybridExecutor, seen: Seen, gate: Gate
) -> None:
    results = executor.map(gate.wait, range(4), progress=seen)
    other = executor.submit(gate.wait, "other")
    wait_until(lambda: seen and seen[-1].running == 4)
    assert seen[-1].done == 0
    gate.open()
    assert list(results) == [0, 1, 2, 3]
    seen.ended(4, 4)
    assert other.result(timeout=30) == "other"


def test_it_moves_while_the_consumer_computes(executor: HybridExecutor, seen: Seen) -> None:
    results = executor.map_unordered(identity, range(100), buffersize=50, progress=seen)
    next(results)
    while not (seen and seen[-1].done == 50):  # it neither waits nor fetches
        pass
    assert sum(1 for _ in results) == 99
    seen.ended(100, 100)


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_futures_that_run_are_counted(executor: HybridExecutor, seen: Seen, gate: Gate) -> None:
    futures = [executor.submit(gate.wait, number) for number in range(3)]
    other = executor.submit(gate.wait, "other")
    results = as_completed(futures, progress=seen)
    wait_until(lambda: seen and seen[-1].running == 3)
    gate.open()
    assert len(list(results)) == 3
    seen.ended(3, 3)
    assert other.result(timeout=30) == "other"


def fail_at_first(folder: Path, number: int) -> int:
    try:
        (folder / f"tried-{number}").mkdir()
    except FileExistsError:
        return number
    raise OSError("not yet")


def test_further_runs_are_counted(executor: HybridExecutor, seen: Seen, tmp_path: Path) -> None:
    view = executor.options(retries=3, backoff=0.0)
    folders = itertools.repeat(tmp_path)
    assert list(view.map(fail_at_first, folders, range(40), progress=seen)) == list(range(40))
    seen.ended(40, 40)
    assert seen[-1].retried == 40


def wait_and_fail_at_first(gate: Gate, folder: Path, number: int) -> int:
    gate.wait(number)
    return fail_at_first(folder, number)


def test_further_runs_of_futures_are_counted(
    executor: HybridExecutor, seen: Seen, gate: Gate, tmp_path: Path
) -> None:
    view = executor.options(retries=3, backoff=0.0)
    futures = [view.submit(wait_and_fail_at_first, gate, tmp_path, n) for n in range(40)]
    results = as_completed(futures, progress=seen)
    gate.open()
    assert len(list(results)) == 40
    seen.ended(40, 40)
    assert seen[-1].retried == 40


def die_at_first(folder: Path) -> str:
    try:
        (folder / "died").mkdir()
    except FileExistsError:
        return "lives"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def test_runs_that_end_with_their_worker_are_counted(
    make_each: Make, seen: Seen, tmp_path: Path
) -> None:
    executor = make_each(max_workers=1, on_worker_loss="retry")
    assert list(executor.map(die_at_first, [tmp_path], progress=seen)) == ["lives"]
    seen.ended(1, 1)
    assert seen[-1].retried == 1


# -- ends -----------------------------------------------------------------------------------------


def test_an_error_ends_it(executor: HybridExecutor, seen: Seen, gate: Gate) -> None:
    with pytest.raises(ValueError, match="0 is bad"):
        list(executor.map(fail_on, [0] * 9, itertools.count(), progress=seen))
    assert 1 <= seen[-1].failed <= seen[-1].done <= 9
    seen.ended(seen[-1].done, 9, failed=1)


def test_a_break_ends_it(executor: HybridExecutor, seen: Seen, gate: Gate) -> None:
    for _ in executor.map_unordered(identity, itertools.count(), buffersize=5, progress=seen):
        break
    assert 1 <= seen[-1].done <= 6
    assert seen[-1].eta is None
    seen.ended(seen[-1].done, None)


def test_closing_the_iterator_ends_it(executor: HybridExecutor, seen: Seen, gate: Gate) -> None:
    results = executor.map_unordered(gate.wait, ["a", "b"], buffersize=1, progress=seen)
    gate.open()
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert seen[-1].done in (1, 2)
    seen.ended(seen[-1].done, 2)


def test_a_timeout_ends_it(executor: HybridExecutor, seen: Seen, gate: Gate) -> None:
    results = executor.map(gate.wait, ["a", "b"], timeout=0.2, progress=seen)
    with pytest.raises(FutureTimeout):
        next(results)
    seen.ended(0, 2)
    results = as_completed([executor.submit(gate.wait, "c")], timeout=0.2, progress=(new := Seen()))
    with pytest.raises(FutureTimeout):
        next(results)
    new.ended(0, 1)


def test_it_ends_with_the_calls_if_nobody_iterates(
    executor: HybridExecutor, seen: Seen, gate: Gate
) -> None:
    executor.map(gate.wait, range(3), progress=seen)
    wait_until(lambda: len(seen) > 1)
    gate.open()
    wait_until(lambda: seen[-1].done == 3)
    seen.ended(3, 3)


def test_it_ends_with_the_iterator_if_nobody_iterates_and_calls_are_left(
    executor: HybridExecutor, seen: Seen
) -> None:
    results = executor.map(identity, range(10), buffersize=2, progress=seen)
    wait_until(lambda: seen and seen[-1].done == 2)
    del results
    wait_until(lambda: not seen.thread.is_alive())
    seen.ended(2, 10)


def test_it_ends_with_the_executor(make_each: Make, seen: Seen) -> None:
    with make_each() as executor:
        lazy = executor.map(identity, range(10), buffersize=2, progress=(other := Seen()))
        executor.map(square, range(100), progress=seen)
    seen.ended(100, 100)
    other.ended(2, 10)
    del lazy


def test_cancelled_calls_are_not_counted(make: Make, seen: Seen, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    results = executor.map_unordered(gate.wait, range(9), progress=seen)
    threading.Thread(target=lambda: (gate.wait_for(1), executor.cancel_all())).start()
    with pytest.raises(CancelledError):
        next(results)
    seen.ended(0, 9)
    futures: list[Future[int]] = [Future(), Future()]
    futures[0].cancel()
    futures[0].set_running_or_notify_cancel()
    futures[1].set_result(1)
    new = Seen()
    assert len(list(as_completed(futures, progress=new))) == 2
    new.ended(1, 2)


INTERRUPTED = """
import sys, threading, time
from hybridexec import HybridExecutor
from hybridexec.parent import lifecycle

lifecycle.PATIENCE = 50.0  # however busy the machine is


def nap(n):
    time.sleep(0.01)
    return n

last = threading.Event()

# (In a function: an interrupt at the jump at a loop's end is not seen by a try around that loop, in
# Python 3.12 and 3.13.)
def compute():
    while last.is_set():
        pass

def show(progress):
    if progress.done > 20 and not last.is_set():
        print("running", flush=True)
        last.set()
    print(progress.done, progress.failed, flush=True)

if __name__ == "__main__":
    waits = sys.argv[1] == "waits"
    try:
        with HybridExecutor(2, concurrency=4) as executor:
            for n in executor.map_unordered(nap, range(10**9), progress=show):
                if not waits:
                    compute()
    except KeyboardInterrupt:
        print("interrupted", threading.active_count(), flush=True)
"""


@pytest.mark.parametrize("consumer", ["waits", "computes"])
def test_ctrl_c_ends_it(tmp_path: Path, consumer: str) -> None:
    with start_script(tmp_path / "script.py", INTERRUPTED, consumer) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "running\n":
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    *shown, end = out.splitlines()
    assert end == "interrupted 1"
    assert all(line.endswith(" 0") for line in shown)


LEFT = """
import time
from hybridexec import HybridExecutor

def nap(n):
    time.sleep(0.01)
    return n

def show(progress):
    print(progress.total, progress.done >= 1, flush=True)

if __name__ == "__main__":
    executor = HybridExecutor(2)
    results = executor.map_unordered(nap, range(10**9), buffersize=4, progress=show)
    next(results)
    print("exit", flush=True)
"""


def test_the_interpreters_exit_ends_it(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", LEFT)
    assert done.stderr == ""
    assert done.stdout.rpartition("exit\n")[2].splitlines()[-1] == "1000000000 True"


FORKED = """
import os, warnings
from hybridexec import HybridExecutor

warnings.simplefilter("ignore", DeprecationWarning)

if __name__ == "__main__":
    with HybridExecutor(2) as executor:
        results = executor.map_unordered(abs, range(1000), buffersize=4, progress=lambda p: None)
        next(results)
        child = os.fork()
        if not child:
            results.close()
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sum(1 for _ in results))
"""


def test_a_forked_child_has_no_part_in_it(tmp_path: Path) -> None:
    assert run_script(tmp_path / "script.py", FORKED).stdout == "7 999\n"


# -- bad use, and other callers -------------------------------------------------------------------


def test_a_callable_that_raises_is_logged_once_and_hurts_nothing(
    executor: HybridExecutor, caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    def fail(progress: Progress) -> None:
        raise ValueError("no paper")

    results = executor.map(gate.wait, range(3), progress=fail)
    wait_until(lambda: caplog.records)
    gate.open()
    assert list(results) == [0, 1, 2]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("hybridexec", "ERROR")


@pytest.mark.parametrize("wrong", [1, "yes", [], object()])
def test_what_cannot_show_progress_is_refused_before_anything_runs(
    executor: HybridExecutor, wrong: Any, gate: Gate
) -> None:
    for method in (executor.map, executor.map_unordered, executor.outcomes):
        with pytest.raises(TypeError, match="progress must be True, a tqdm bar, a rich"):
            method(gate.arrive, [1], progress=wrong)
    with pytest.raises(TypeError, match="progress must be"):
        as_completed([], progress=wrong)
    assert not gate.arrived


@pytest.mark.parametrize("nothing", [None, False])
def test_nothing_is_nothing(executor: HybridExecutor, nothing: bool | None) -> None:
    results = executor.map(identity, range(10), progress=nothing)
    assert "hybridexec-progress" not in [thread.name for thread in threading.enumerate()]
    assert list(results) == list(range(10))
    futures = [executor.submit(identity, 1)]
    assert list(as_completed(futures, progress=nothing)) == futures


def test_as_completed_takes_futures_of_any_executor(executor: HybridExecutor, seen: Seen) -> None:
    with ThreadPoolExecutor(2) as threads:
        futures = [pool.submit(square, n) for pool in (executor, threads) for n in range(50)]
        assert set(as_completed(futures, progress=seen)) == set(futures)
    seen.ended(100, 100)


def test_in_a_thread_of_an_asyncio_program(executor: HybridExecutor, seen: Seen) -> None:
    def work() -> list[Outcome[int]]:
        return list(executor.outcomes(square, range(100), progress=seen))

    assert len(asyncio.run(asyncio.to_thread(work))) == 100
    seen.ended(100, 100)


def test_several_at_once(executor: HybridExecutor) -> None:
    shown = [Seen(), Seen(), Seen()]
    streams = [executor.map(square, range(1000), progress=each) for each in shown]
    assert [sum(1 for _ in stream) for stream in streams] == [1000] * 3
    for each in shown:
        each.ended(1000, 1000)
