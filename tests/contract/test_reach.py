"""A stop reaches what a call has started, and only that: its worker and its neighbours live on."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make
from .helpers import PATIENCE, Gate, pid_of, wait_until
from .ways_to_begin import (
    GRACE,
    LONG,
    WAYS,
    burn,
    in_a_joined_thread,
    in_a_shared_pool,
    in_a_thread,
    in_a_with_block,
    shared,
    stopped,
    work,
)

pytestmark = pytest.mark.on_cluster


def begun(gate: Gate) -> list[str]:
    return [name.split("-")[1] for name in gate.arrived if name.startswith("begins-")]


@pytest.fixture
def alone(make: Make) -> HybridExecutor:
    """With one worker, so that all is beside each other."""
    return make(max_workers=1, timeout_grace=GRACE)


def stop(executor: HybridExecutor, how: str, way: Callable[..., None], gate: Gate, do: Any) -> None:
    """Run a call, and stop it once what it has started has begun."""
    if how == "cancel":
        call = executor.submit(way, gate, do)
        wait_until(lambda: begun(gate), way.__name__)
        assert call.cancel()
        return
    seconds = 0.4
    while not begun(gate):  # in time, on a busy machine
        with pytest.raises(CallTimeout):
            executor.options(timeout=seconds).submit(way, gate, do).result(PATIENCE)
        seconds *= 3


def stay(gate: Gate, name: str) -> str:
    """As ``gate.wait``, for as long as the test takes."""
    gate.arrive(name)
    while not gate.is_open():
        time.sleep(0.01)
    return name


def check_all_ends(
    executor: HybridExecutor, gate: Gate, how: str, ways: list[Any], do: Any
) -> None:
    """All that calls have started is stopped with them; their worker and its other call live."""
    pid = executor.submit(pid_of).result(PATIENCE)
    neighbour = executor.submit(stay, gate, "neighbour")
    for way in ways:
        mine = Gate(gate.folder / way.__name__)
        stop(executor, how, way, mine, do)
        wait_until(partial(all_is_stopped, mine), way.__name__)
        assert executor.submit(pid_of).result(PATIENCE) == pid, way.__name__
    gate.open()
    assert neighbour.result(PATIENCE) == "neighbour"


def all_is_stopped(gate: Gate) -> bool:
    names = begun(gate)
    return bool(names) and set(names) <= set(stopped(gate))


stopped_how = pytest.mark.parametrize(
    "how", ["cancel", pytest.param("timeout", marks=pytest.mark.slow)]
)


@stopped_how
def test_a_call_ends_with_what_it_has_started(alone: HybridExecutor, gate: Gate, how: str) -> None:
    check_all_ends(alone, gate, how, WAYS, work)


@stopped_how
def test_on_each_start_method(make_each: Make, gate: Gate, how: str) -> None:
    executor = make_each(max_workers=1, timeout_grace=GRACE)
    check_all_ends(executor, gate, how, [in_a_with_block, in_a_joined_thread], work)


@pytest.mark.slow
@stopped_how
def test_what_it_has_started_may_compute(alone: HybridExecutor, gate: Gate, how: str) -> None:
    check_all_ends(alone, gate, how, WAYS, burn)


@stopped_how
def test_a_computing_thread_is_stopped(alone: HybridExecutor, gate: Gate, how: str) -> None:
    check_all_ends(alone, gate, how, [in_a_with_block, in_a_joined_thread], burn)


@stopped_how
def test_with_one_slot(make: Make, gate: Gate, how: str) -> None:
    executor = make(max_workers=1, concurrency=1, timeout_grace=GRACE)
    pid = executor.submit(pid_of).result(PATIENCE)
    for way in WAYS:
        mine = Gate(gate.folder / way.__name__)
        stop(executor, how, way, mine, work)
        assert executor.submit(pid_of).result(PATIENCE) == pid, way.__name__
        wait_until(partial(all_is_stopped, mine), way.__name__)


def fail_when_stopped(gate: Gate, name: object) -> None:
    try:
        work(gate, name)
    finally:
        raise ValueError("of its own")


@pytest.mark.this_machine("what is printed on a node is printed there")
@pytest.mark.parametrize(
    ("do", "says"), [(work, ""), (fail_when_stopped, "ValueError: of its own")]
)
def test_a_thread_that_is_told_ends_without_a_word(
    alone: HybridExecutor, gate: Gate, do: Any, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stop(alone, "cancel", in_a_thread, gate, do)
    wait_until(lambda: all_is_stopped(gate))
    alone.shutdown()  # the thread has ended, too, for the call waits for it
    said = capfd.readouterr().err
    assert says in said
    assert bool(says) == ("Traceback" in said)


def ask_shared(gate: Gate, name: str) -> Any:
    return shared.submit(gate.wait, name).result()


def test_a_shared_pool_goes_on_with_others_work(alone: HybridExecutor, gate: Gate) -> None:
    pid = alone.submit(pid_of).result(PATIENCE)
    neighbours = [alone.submit(ask_shared, gate, f"neighbour{n}") for n in range(3)]
    gate.wait_for(3)
    mine = Gate(gate.folder / "mine")
    for _ in range(6):  # more than it has threads
        call = alone.submit(in_a_shared_pool, mine)
        wait_until(lambda: begun(mine))
        call.cancel()
        wait_until(lambda: stopped(mine))
        for name in mine.arrived:
            os.unlink(mine.folder / f"at-{name}")
    gate.open()
    assert [each.result(PATIENCE) for each in neighbours] == [f"neighbour{n}" for n in range(3)]
    assert alone.submit(pid_of).result(PATIENCE) == pid


def begin_processes(gate: Gate) -> None:
    processes.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    gate.arrive(str(processes[0].submit(abs, -1).result()))
    time.sleep(LONG)


def ask_processes() -> int:
    try:
        return processes[0].submit(abs, -2).result()
    finally:
        processes.pop().shutdown()


processes: list[ProcessPoolExecutor] = []


def test_a_pool_of_processes_that_a_stopped_call_has_begun_can_be_used(
    alone: HybridExecutor, gate: Gate
) -> None:
    call = alone.submit(begin_processes, gate)
    gate.wait_for(1)
    assert call.cancel()
    alone.submit(time.sleep, 0.1).result(PATIENCE)  # what the stop reaches, it has reached
    assert alone.submit(ask_processes).result(PATIENCE) == 2


helpers: list[threading.Thread] = []


def begin_a_helper(gate: Gate) -> None:
    helper = threading.Thread(target=gate.wait, args=("helper",), daemon=True)
    helper.start()
    helpers.append(helper)
    gate.arrive("begins-helper")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, gate, 0).result()


def helper_lives() -> bool:
    return helpers[0].is_alive()


def test_what_may_serve_others_is_left_alone(alone: HybridExecutor, gate: Gate) -> None:
    call = alone.submit(begin_a_helper, gate)
    gate.wait_for(3)
    call.cancel()
    wait_until(lambda: stopped(gate))
    assert alone.submit(helper_lives).result(PATIENCE)


def clean_up_with_threads(gate: Gate) -> None:
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, gate, 0).result()
    finally:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(gate.wait, "cleaning").result()
        gate.arrive("cleaned")


def test_what_it_cleans_up_with_runs_on(alone: HybridExecutor, gate: Gate) -> None:
    call = alone.submit(clean_up_with_threads, gate)
    wait_until(lambda: begun(gate))
    call.cancel()
    wait_until(lambda: "cleaning" in gate.arrived)
    alone.submit(time.sleep, 0.2).result(PATIENCE)
    gate.open()
    wait_until(lambda: "cleaned" in gate.arrived)


def leave_running(gate: Gate) -> None:
    threading.Thread(target=gate.wait, args=("left",)).start()
    shared.submit(gate.wait, "left too")


def test_what_a_call_leaves_running_is_not_the_next_ones(make: Make, gate: Gate) -> None:
    with make(max_workers=1, concurrency=1, timeout_grace=GRACE) as executor:
        executor.submit(leave_running, gate).result(PATIENCE)
        gate.wait_for(2)
        mine = Gate(gate.folder / "mine")
        with pytest.raises(CallTimeout):
            executor.options(timeout=0.5).submit(in_a_with_block, mine).result(PATIENCE)
        gate.open()
        executor.submit(shared_is_idle).result(PATIENCE)


def shared_is_idle() -> None:
    try:
        shared.submit(int).result()
    except CancelledError:
        raise AssertionError from None
