"""Cancelling: unstarted calls are dropped, running ones stopped, and nothing else is touched."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import zlib
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path

import pytest

from hybridexec import HybridExecutor
from hybridexec.wire import parts

from .conftest import Make
from .helpers import PATIENCE, Gate, pid_of, square, wait_until
from .stopped_calls import burn

pytestmark = pytest.mark.every_lane


def wait_and_clean_up(gate: Gate, name: str, cleaned: Gate) -> None:
    try:
        gate.wait(name)
    finally:
        # Cleaning up may wait, too.
        time.sleep(0.01)
        cleaned.arrive(name)


def swallow_everything(gate: Gate, name: str) -> str:
    try:
        gate.wait(name)
    except BaseException as error:
        gate.arrive(f"{name}-{isinstance(error, Exception)}")
    return "ignored"


def tell_workers(executor: HybridExecutor) -> None:
    """Wait until workers have heard of all cancellations: they answer what was sent after these. A
    call that was sent ahead may start before its own gets there."""
    wait_until(lambda: not any(each["no_answer"] for each in executor._engine.stacks()))


def test_a_call_that_has_not_started_never_runs(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    first = executor.submit(gate.wait, "first")
    gate.wait_for(1)
    waiting = [executor.submit(gate.wait, n) for n in range(20)]
    assert all(future.cancel() for future in waiting)
    assert all(future.cancelled() for future in waiting)
    tell_workers(executor)
    last = executor.submit(square, 3)
    gate.open()
    assert first.result() == "first"
    assert last.result() == 9
    assert gate.arrived == ["first"]


def test_a_running_call_is_stopped_where_it_waits_and_cleans_up(
    executor: HybridExecutor, gate: Gate, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    future = executor.submit(wait_and_clean_up, gate, "a", cleaned)
    gate.wait_for(1)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    cleaned.wait_for(1)


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_neighbours_of_a_stopped_call_run_on(executor: HybridExecutor, gate: Gate) -> None:
    futures = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(10)
    assert all(future.cancel() for future in futures[::2])
    gate.open()
    assert [future.result(timeout=30) for future in futures[1::2]] == [1, 3, 5, 7, 9]


def test_a_stopped_calls_slot_is_free_again_and_its_worker_lives_on(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result()
    for n in range(5):
        future = executor.submit(gate.wait, n)
        gate.wait_for(n + 1)
        assert future.cancel()
        assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_stopped_call_no_longer_counts_as_running(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    future = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    future.cancel()
    assert not future.running()
    wait_until(lambda: executor.stats().running == 0)


def test_cancelling_twice_is_as_good_as_once(executor: HybridExecutor, gate: Gate) -> None:
    future = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    calls: list[object] = []
    future.add_done_callback(calls.append)
    assert future.cancel()
    assert future.cancel()
    assert calls == [future]


def test_a_call_that_has_ended_cannot_be_cancelled(executor: HybridExecutor) -> None:
    future = executor.submit(square, 3)
    assert future.result() == 9
    assert not future.cancel()
    assert not future.cancelled()
    failed = executor.submit(square, "x")
    assert failed.exception() is not None
    assert not failed.cancel()


def test_a_call_that_ignores_its_cancellation_is_still_cancelled(
    executor: HybridExecutor, gate: Gate
) -> None:
    future = executor.submit(swallow_everything, gate, "a")
    gate.wait_for(1)
    assert future.cancel()
    # An `except Exception` would not have caught it.
    wait_until(lambda: "a-False" in gate.arrived)
    assert future.cancelled()
    assert executor.submit(square, 2).result(timeout=30) == 4


def test_cancelling_a_call_that_hogs_the_cpu_returns_at_once(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    future = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(timeout=0)
    # Its worker was left alone: other calls run there when it is done.
    other = executor.submit(square, 4)
    gate.open()
    assert other.result(timeout=30) == 16


def test_a_call_that_hogs_the_cpu_hears_of_it_behind_a_full_pipe(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "move", lambda them: them)  # into no files
    executor = make(max_workers=1, concurrency=4)
    hog = executor.submit(burn)
    wait_until(hog.running)
    # They are sent ahead, and are more than the pipe holds: whatever else has the worker read, it
    # comes behind them.
    behind = [executor.submit(len, bytes(1_000_000)) for _ in range(2)]
    assert hog.cancel()
    assert [call.result(timeout=20) for call in behind] == [1_000_000] * 2


def test_waiters_see_a_cancelled_call_as_done(executor: HybridExecutor, gate: Gate) -> None:
    future = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    threading.Timer(0.05, future.cancel).start()
    assert wait([future], timeout=30).done == {future}
    assert list(as_completed([future], timeout=30)) == [future]


def test_as_completed_that_waits_gets_a_cancelled_call(
    executor: HybridExecutor, gate: Gate
) -> None:
    future = executor.submit(gate.wait, "a")
    threading.Timer(0.05, future.cancel).start()
    assert next(as_completed([future], timeout=30)) is future
    assert future.cancelled()


def test_result_that_waits_raises_when_the_call_is_cancelled(
    executor: HybridExecutor, gate: Gate
) -> None:
    future = executor.submit(gate.wait, "a")
    threading.Timer(0.05, future.cancel).start()
    with pytest.raises(CancelledError):
        future.result(timeout=30)


def test_asyncio_wait_for_stops_the_call(
    executor: HybridExecutor, gate: Gate, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(executor, wait_and_clean_up, gate, "a", cleaned)
        await asyncio.to_thread(gate.wait_for, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.05)

    asyncio.run(main())
    cleaned.wait_for(1)


def test_many_cancellations_while_calls_start_and_end(executor: HybridExecutor) -> None:
    futures = [executor.submit(time.sleep, n % 3 * 0.001) for n in range(1_000)]
    stopped = [future for future in futures[::2] if future.cancel()]
    assert wait(futures, timeout=60).not_done == set()
    assert all(future.cancelled() for future in stopped)
    assert all(future.result() is None for future in futures if not future.cancelled())
    assert executor.submit(square, 5).result(timeout=30) == 25


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_cancelled_calls_do_not_hold_up_shutdown(make_each: Make, gate: Gate) -> None:
    executor = make_each()
    futures = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(10)
    for future in futures:
        future.cancel()
    executor.shutdown()
    assert executor.stats().workers == ()


@pytest.mark.slow
def test_a_call_cancelled_in_c_code_that_then_fails_ends_as_any(make: Make) -> None:
    # The first Python code that runs after the stop was asked for is ours, which describes the
    # error: it must not be hit.
    wrong = zlib.compress(bytes(100_000_000))[:-1] + b"x"
    executor = make(max_workers=1)

    def is_cancelled_while_it_runs() -> bool:
        future = executor.submit(zlib.decompress, wrong)
        wait_until(lambda: future.running() or future.done())
        return future.cancel()

    wait_until(is_cancelled_while_it_runs)
    assert executor.submit(square, 3).result() == 9


# -- all at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["executor", "view"])
@pytest.mark.every_lane(but=("async", "cluster"))  # where blocking calls wait; no processes of ours
def test_cancel_all_stops_everything_and_the_executor_goes_on(
    make_each: Make, gate: Gate, through: str
) -> None:
    executor = make_each(max_workers=1, concurrency=3, timeout_grace=PATIENCE)
    cleaned = Gate(gate.folder.with_name("cleaned"))
    running = [executor.submit(wait_and_clean_up, gate, n, cleaned) for n in "abc"]
    gate.wait_for(3)
    waiting = [executor.options(timeout=60).submit(gate.wait, n) for n in range(10)]
    called: list[object] = []
    waiting[0].add_done_callback(called.append)
    pids = set(executor._processes)
    (executor if through == "executor" else executor.options(retries=1)).cancel_all()
    assert all(future.cancelled() for future in running + waiting)
    assert called == waiting[:1]
    cleaned.wait_for(3)
    assert set(executor.map(pid_of, range(10))) == pids
    assert not [name for name in gate.arrived if name.isdigit()]


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
@pytest.mark.parametrize("how", ["map", "lazy", "unordered", "exceptions", "outcomes"])
def test_cancel_all_ends_streams_with_an_error(make: Make, gate: Gate, how: str) -> None:
    executor = make(max_workers=1, concurrency=4)
    names = map(str, range(50))
    results = {
        "map": lambda: executor.map(gate.wait, names),
        "lazy": lambda: executor.map(gate.wait, names, buffersize=8),
        "unordered": lambda: executor.map_unordered(gate.wait, names, buffersize=8),
        "exceptions": lambda: executor.map_unordered(
            gate.wait, names, buffersize=8, return_exceptions=True
        ),
        "outcomes": lambda: executor.outcomes(gate.wait, names, buffersize=8),
    }[how]()

    def cancel() -> None:
        gate.wait_for(4)
        executor.cancel_all()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CancelledError):
        next(results)
    thread.join()
    assert list(results) == []
    assert executor.submit(square, 3).result(timeout=30) == 9
    assert executor.stats().pending == 0
    assert len([name for name in gate.arrived if name.isdigit()]) == 4


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_cancel_all_stops_what_a_closed_stream_has_left_running(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=4)
    results = executor.map(gate.wait, range(50))
    gate.wait_for(4)
    results.close()
    executor.cancel_all()
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_cancel_all_of_nothing_does_nothing(make: Make) -> None:
    executor = make(max_workers=1)
    executor.cancel_all()
    assert executor.submit(square, 3).result(timeout=30) == 9
    executor.cancel_all()
    executor.shutdown()
    executor.cancel_all()


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_cancel_all_from_a_callback_does_not_wait_for_itself(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=3)
    future = executor.submit(gate.wait, "a")
    other = executor.submit(square, 3)
    other.add_done_callback(lambda _: executor.cancel_all())
    with pytest.raises(CancelledError):
        future.result(timeout=30)
    assert executor.submit(square, 4).result(timeout=30) == 16


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
@pytest.mark.parametrize("how", ["map", "lazy", "unordered", "outcomes"])
def test_ctrl_c_in_an_iteration_stops_its_running_calls(make: Make, gate: Gate, how: str) -> None:
    """And those of no other: a notebook's next cell finds the slots free."""
    executor = make(max_workers=1, concurrency=5)
    other = executor.submit(gate.wait, "other")
    items = [str(n) for n in range(200)]
    results = {
        "map": lambda: executor.map(gate.wait, items),
        "lazy": lambda: executor.map(gate.wait, items, buffersize=50),
        "unordered": lambda: executor.map_unordered(gate.wait, items),
        "outcomes": lambda: executor.outcomes(gate.wait, items),
    }[how]()

    def interrupt() -> None:
        gate.wait_for(5)
        signal.raise_signal(signal.SIGINT)

    def iterate() -> None:
        thread.start()
        for _ in results:
            pass

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        iterate()
    thread.join()
    assert list(executor.map(square, range(20), timeout=30)) == [n * n for n in range(20)]
    assert len(gate.arrived) == 5
    assert not other.done()
    gate.open()
    assert other.result(timeout=30) == "other"
