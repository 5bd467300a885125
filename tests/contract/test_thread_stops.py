"""Stopping calls in the thread lane: by an exception at the next bytecode, and in no other call."""

from __future__ import annotations

import contextlib
import ctypes
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from hybridexec import CallTimeout, events

from .conftest import Make
from .helpers import PATIENCE, Gate, is_alive, pid_of, square, wait_until
from .stopped_calls import (
    LONG,
    SOON,
    TIMEOUT,
    burn,
    burn_and_wait_while_cleaning_up,
    hold_gil,
    swallow,
    times_out,
)

pytestmark = pytest.mark.on_cluster

#: A lock that calls take by hand, in a worker.
LOCK = threading.Lock()


def nap_on_and_on(gate: Gate, cleaned: Gate, name: object) -> None:
    try:
        gate.arrive(name)
        while True:
            time.sleep(0.001)
    finally:
        time.sleep(0.01)
        cleaned.arrive(name)


def test_a_call_is_stopped_where_it_runs_and_cleans_up(
    make_threads: Make, gate: Gate, tmp_path: Path
) -> None:
    executor = make_threads(max_workers=1, timeout_grace=PATIENCE)
    cleaned = Gate(tmp_path / "cleaned")
    pid = executor.submit(pid_of).result(30)
    burns = executor.submit(burn_and_wait_while_cleaning_up, gate, cleaned)
    naps = executor.submit(nap_on_and_on, gate, cleaned, "naps")
    neighbour = executor.submit(gate.wait, "neighbour")
    gate.wait_for(3)
    for future in (burns, naps):
        wait_until(future.running)
        assert future.cancel()
        with pytest.raises(CancelledError):
            future.result()
    cleaned.wait_for(2)
    wait_until(lambda: executor.stats().running == 1)
    gate.open()
    assert neighbour.result(30) == "neighbour"
    assert executor.submit(pid_of).result(30) == pid


def test_a_call_that_has_not_started_never_runs(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=1)
    first = executor.submit(gate.wait, "first")
    gate.wait_for(1)
    waiting = [executor.submit(gate.wait, n) for n in range(20)]
    assert all(future.cancel() for future in waiting)
    # The worker answers when it has heard of that.
    wait_until(lambda: not any(worker["no_answer"] for worker in executor._engine.stacks()))
    gate.open()
    assert first.result(30) == "first"
    wait_until(lambda: executor.stats().running == executor.stats().queued == 0)
    assert gate.arrived == ["first"]


def spin_briefly(n: int) -> int:
    for _ in range(n % 500):
        pass
    return n


def test_no_stop_ever_hits_another_call(make_threads: Make) -> None:
    executor = make_threads(max_workers=1, threads=3, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(30)
    chance = random.Random(5)
    cancelled = 0
    for _ in range(40):
        futures = [executor.submit(spin_briefly, n) for n in range(100)]
        for future in chance.sample(futures, 50):
            cancelled += future.cancel()
        for n, future in enumerate(futures):
            if not future.cancelled():
                assert future.result(30) == n
    assert cancelled
    assert executor.submit(pid_of).result(30) == pid


def test_a_call_ends_as_timed_out_soon_after_its_time(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=4, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(30)
    neighbour = executor.submit(gate.wait, "neighbour")
    gate.wait_for(1)
    timed = executor.options(timeout=TIMEOUT)
    began = time.monotonic()
    late = [timed.submit(burn) for _ in range(3)]
    for future in late:
        times_out(future)
    assert time.monotonic() - began < SOON
    gate.open()
    assert neighbour.result(30) == "neighbour"
    assert executor.submit(pid_of).result(30) == pid


def test_the_time_begins_when_a_call_starts(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=1)
    first = executor.submit(gate.wait, "first")
    gate.wait_for(1)
    timed = executor.options(timeout=1.0).submit(square, 3)
    time.sleep(1.2)  # it waits for longer than it may run
    gate.open()
    assert (first.result(30), timed.result(30)) == ("first", 9)


def test_a_call_whose_time_is_up_may_be_retried(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1)
    retried = executor.options(timeout=0.3, retries=1, retry_on=CallTimeout, backoff=0)
    with pytest.raises(CallTimeout) as caught:
        retried.submit(burn_and_say, gate).result(30)
    assert sum("Run 1 of this call" in note for note in caught.value.__notes__) == 1


def burn_and_say(gate: Gate) -> None:
    gate.arrive(len(gate.arrived))
    burn()


def test_a_call_that_swallows_its_end_costs_its_worker_and_no_other_call(
    make_threads: Make, gate: Gate
) -> None:
    executor = make_threads(max_workers=1, threads=4, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(30)
    safe = executor.options(on_worker_loss="retry").submit(gate.wait, "safe")
    times_out(executor.options(timeout=TIMEOUT).submit(swallow, gate))
    gate.open()
    assert safe.result(30) == "safe"
    assert executor.submit(pid_of).result(30) != pid


def stay_in_c(gate: Gate) -> None:
    """Be in C code, without the GIL, where no exception gets."""
    for _ in range(2):
        with contextlib.suppress(BaseException):  # one that gets here before it is there
            gate.arrive("c")
            ctypes.CDLL(None).usleep(LONG * 1_000_000)


@pytest.mark.parametrize("resist", [stay_in_c, swallow])
def test_a_cancelled_call_that_goes_on_costs_its_worker_when_the_others_have_ended(
    make_threads: Make, gate: Gate, resist: Callable[[Gate], object]
) -> None:
    executor = make_threads(max_workers=1, threads=4, timeout_grace=0.3)
    ended: list[events.WorkerEnded] = []
    executor.observe(ended.append, events=events.WorkerEnded)
    pid = executor.submit(pid_of).result(30)
    neighbours = [executor.submit(gate.wait, n) for n in range(2)]
    future = executor.submit(resist, gate)
    gate.wait_for(3)
    assert future.cancel()
    wait_until(lambda: executor.stats().abandoned)
    assert executor.submit(pid_of).result(30) != pid
    assert is_alive(pid)
    assert not any(neighbour.done() for neighbour in neighbours)
    gate.open()
    assert [neighbour.result(30) for neighbour in neighbours] == [0, 1]
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: ended)
    assert [(event.pid, event.lost) for event in ended] == [(pid, False)]
    assert executor.stats().lost == 0


def test_a_cancelled_call_that_goes_on_does_not_keep_the_executor_from_ending(
    make_threads: Make, gate: Gate
) -> None:
    executor = make_threads(max_workers=1, threads=1, timeout_grace=0.3)
    future = executor.submit(stay_in_c, gate)
    gate.wait_for(1)
    assert future.cancel()
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("wait", ["without the GIL", "gil"])
def test_a_call_that_stays_in_c_costs_its_worker(make_threads: Make, gate: Gate, wait: str) -> None:
    executor = make_threads(max_workers=1, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(30)
    timed = executor.options(timeout=TIMEOUT)
    times_out(timed.submit(hold_gil, gate) if wait == "gil" else timed.submit(time.sleep, LONG))
    assert executor.submit(pid_of).result(30) != pid


def test_calls_whose_neighbour_holds_the_gil_end_in_time(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, timeout_grace=1.0)
    timed = executor.options(timeout=TIMEOUT)
    burning = timed.submit(burn_and_say, gate)
    wait_until(lambda: gate.arrived or burning.done())
    # Its time is up a moment later, within the grace of the other.
    holding = timed.submit(hold_gil, gate)
    times_out(burning)
    times_out(holding)
    assert executor.submit(square, 3).result(30) == 9


def take_by_hand() -> None:
    LOCK.acquire()
    try:
        pass
    finally:
        LOCK.release()


def lock_on_and_on(gate: Gate, n: int) -> None:
    gate.arrive(n)
    while True:
        take_by_hand()


def take_lock() -> bool:
    return LOCK.acquire(timeout=30)


@pytest.mark.slow
def test_a_stopped_call_leaves_no_lock_taken(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=2)
    for n in range(20):
        future = executor.submit(lock_on_and_on, gate, n)
        gate.wait_for(n + 1)
        assert future.cancel()
        wait_until(lambda: executor.stats().running == 0)
    assert executor.submit(take_lock).result(60)


def test_a_thread_in_which_something_was_raised_runs_no_other_call(
    make_threads: Make, gate: Gate, tmp_path: Path
) -> None:
    executor = make_threads(max_workers=1, threads=1)
    before = executor.submit(threading.get_native_id).result(30)
    future = executor.submit(nap_on_and_on, gate, Gate(tmp_path / "cleaned"), "a")
    gate.wait_for(1)
    assert future.cancel()
    assert executor.submit(threading.get_native_id).result(30) != before


def test_cancelled_calls_are_stopped_when_the_executor_ends_at_once(
    make_threads: Make, gate: Gate, tmp_path: Path
) -> None:
    # They have time to clean up, whatever else runs.
    executor = make_threads(max_workers=1, threads=4, timeout_grace=30)
    cleaned = Gate(tmp_path / "cleaned")
    futures = [executor.submit(nap_on_and_on, gate, cleaned, n) for n in range(4)]
    gate.wait_for(4)
    for future in futures:
        future.cancel()
    executor.shutdown()
    assert len(cleaned.arrived) == 4
