"""options(timeout=): a call ends soon after its time is up, by the mildest means that work."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hybridexec import CallTimeout, WorkerLost
from hybridexec.wire.parts import SHARED_FROM

from .conftest import Make
from .helpers import PATIENCE, Gate, nap, pid_of, pids, wait_until
from .stopped_calls import (
    LONG,
    SOON,
    TIMEOUT,
    burn,
    burn_and_wait_while_cleaning_up,
    burn_without_except_exception,
    clean_up,
    compute_with_lock,
    hold_gil,
    swallow,
    take_lock,
    times_out,
)

pytestmark = pytest.mark.on_cluster


def test_a_call_that_waits_is_stopped_and_its_siblings_are_not(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    siblings = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    times_out(executor.options(timeout=TIMEOUT).submit(time.sleep, LONG))
    gate.open()
    assert [sibling.result(timeout=30) for sibling in siblings] == [0, 1, 2]
    assert executor.submit(pid_of).result(timeout=30) == pid


@pytest.mark.slow
def test_a_call_that_keeps_the_cpu_is_interrupted_and_its_siblings_are_not(
    make_each: Make, gate: Gate
) -> None:
    executor = make_each(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    siblings = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    times_out(executor.options(timeout=TIMEOUT).submit(burn))
    gate.open()
    assert [sibling.result(timeout=30) for sibling in siblings] == [0, 1, 2]
    assert executor.submit(pid_of).result(timeout=30) == pid


# In a thread, with Python 3.13, it is raised at the next place, whichever that is.
@pytest.mark.every_lane(but=("thread",))
def test_a_call_that_is_interrupted_in_a_loop_gives_back_its_lock(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    times_out(executor.options(timeout=TIMEOUT).submit(compute_with_lock, gate))
    assert gate.arrived == ["computes"]
    assert executor.submit(take_lock).result(timeout=PATIENCE)
    assert executor.submit(pid_of).result(timeout=30) == pid


@pytest.mark.slow
def test_a_call_that_keeps_the_cpu_is_interrupted_though_the_pipe_is_full(
    make: Make, gate: Gate
) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    late = executor.options(timeout=TIMEOUT).submit(burn, gate)
    gate.wait_for(1)
    behind = [executor.submit(len, bytes(SHARED_FROM - 1000)) for _ in range(3)]
    times_out(late)
    assert [future.result(timeout=SOON) for future in behind] == [SHARED_FROM - 1000] * 3
    assert executor.submit(pid_of).result(timeout=30) == pid


@pytest.mark.slow
def test_an_interrupted_call_cleans_up_and_does_not_catch_it_by_exception(
    make: Make, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    times_out(executor.options(timeout=TIMEOUT).submit(burn_without_except_exception, cleaned))
    assert cleaned.arrived == ["cleaned"]


@pytest.mark.slow
def test_an_interrupted_call_is_left_alone_while_it_cleans_up(
    make: Make, gate: Gate, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    view = executor.options(timeout=TIMEOUT)
    times_out(view.submit(burn_and_wait_while_cleaning_up, gate, cleaned))
    assert cleaned.arrived == ["cleaned"]


@pytest.mark.slow
def test_an_interrupted_call_that_runs_again_is_interrupted_again(make: Make) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    view = executor.options(timeout=TIMEOUT, retries=1, retry_on=CallTimeout, backoff=0)
    times_out(view.submit(burn))
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_call_that_goes_on_all_the_same_costs_its_worker(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(timeout=30)
    siblings = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    times_out(executor.options(timeout=TIMEOUT).submit(swallow, gate))
    for sibling in siblings:
        with pytest.raises(WorkerLost) as caught:
            sibling.result(timeout=SOON)
        assert caught.value.pid == pid
    assert executor.submit(pid_of).result(timeout=30) != pid


def test_its_siblings_run_again_if_they_may(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3, on_worker_loss="retry")
    siblings = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    times_out(executor.options(timeout=TIMEOUT).submit(swallow, gate))
    gate.open()
    assert [sibling.result(timeout=30) for sibling in siblings] == [0, 1, 2]


def test_a_call_in_c_code_that_holds_the_gil_ends_in_time(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3)
    times_out(executor.options(timeout=TIMEOUT).submit(hold_gil, gate))
    executor.kill_workers()


def test_c_code_that_holds_the_gil_costs_its_worker(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(timeout=30)
    sibling = executor.submit(gate.wait, "sibling")
    gate.wait_for(1)
    times_out(executor.options(timeout=TIMEOUT).submit(hold_gil, gate))
    with pytest.raises(WorkerLost):
        sibling.result(timeout=SOON)
    assert executor.submit(pid_of).result(timeout=30) != pid


def test_a_native_wait_is_interrupted(make: Make) -> None:
    executor = make(max_workers=1, monkey_patch=False, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    times_out(executor.options(timeout=TIMEOUT).submit(nap, LONG))
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_native_wait_without_any_python_code_ends_in_time(make: Make) -> None:
    executor = make(max_workers=1, monkey_patch=False, timeout_grace=0.3)
    times_out(executor.options(timeout=TIMEOUT).submit(time.sleep, LONG))
    executor.kill_workers()


@pytest.mark.slow
def test_the_victim_of_a_hog_fails_while_its_worker_lives(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(timeout=30)
    victim = executor.options(timeout=1.0).submit(gate.wait, "victim")
    gate.wait_for(1)
    hog = executor.submit(gate.hog, "hog")
    with pytest.raises(CallTimeout):
        victim.result(timeout=SOON)
    assert not hog.done()
    gate.open()
    assert hog.result(timeout=30) == "hog"
    assert executor.submit(pid_of).result(timeout=30) == pid


@pytest.mark.slow
def test_the_grace_is_for_cleaning_up(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    future = executor.options(timeout=TIMEOUT).submit(clean_up, gate, 1.5)
    assert future.result(timeout=30) == "cleaned"
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_what_outlives_the_grace_costs_the_worker(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.1)
    pid = executor.submit(pid_of).result(timeout=30)
    times_out(executor.options(timeout=TIMEOUT).submit(swallow, gate))
    wait_until(lambda: pid not in pids(executor))
    assert executor.submit(pid_of).result(timeout=30) != pid


@pytest.mark.slow
def test_time_spent_waiting_for_a_slot_does_not_count(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    view = executor.options(timeout=1.0)
    futures = [view.submit(time.sleep, 0.4) for _ in range(4)]
    assert [future.result(timeout=30) for future in futures] == [None] * 4


def test_the_calls_of_a_map_have_deadlines_of_their_own(make: Make) -> None:
    executor = make(max_workers=1)
    view = executor.options(timeout=TIMEOUT)
    outcomes = {o.item: o for o in view.outcomes(time.sleep, [0, LONG, 0.001])}
    assert [outcomes[n].ok for n in (0, LONG, 0.001)] == [True, False, True]
    assert isinstance(outcomes[LONG].error, CallTimeout)
    assert outcomes[LONG].attempts == 1


class Seconds(float):
    """As numpy's numbers are: a float, and yet not quite."""


def test_a_timeout_may_be_any_kind_of_number(make: Make) -> None:
    executor = make(max_workers=1)
    for timeout in (Seconds(20), np.float64(20), 20):
        assert executor.options(timeout=timeout).submit(abs, -3).result(timeout=30) == 3
