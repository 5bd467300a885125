"""options(timeout=): a call ends soon after its time is up, and nobody is hurt who need not be."""

from __future__ import annotations

import ctypes
import importlib
import io
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hybridexec import CallTimeout, HybridExecutor, WorkerLost
from hybridexec.wire.shared import SHARED_FROM
from hybridexec.worker.greenlets import runners

from .conftest import Make
from .helpers import PATIENCE, Gate, nap, pid_of, square, wait_until

TIMEOUT = 0.3
#: Far more than any rung needs, far less than the calls would take.
SOON = 30.0
#: What calls would take if nobody stopped them.
LONG = 60


def burn(gate: Gate | None = None, seconds: float = LONG) -> str:
    """Keep the CPU in Python code."""
    if gate is not None:
        gate.arrive("burn")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    return "burnt"


def burn_without_except_exception(cleaned: Gate) -> str:
    try:
        return burn()
    except Exception:
        return "caught"
    finally:
        cleaned.arrive("cleaned")


def burn_and_wait_while_cleaning_up(burning: Gate, cleaned: Gate) -> None:
    try:
        burn(burning)
    finally:
        time.sleep(0.1)
        cleaned.arrive("cleaned")


def swallow(gate: Gate) -> str:
    """Wait, and go on waiting whatever is raised."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        try:
            gate.arrive("swallow")
            time.sleep(0.05)
        except BaseException:
            pass
    return "swallowed"


def hold_gil(gate: Gate) -> None:
    """Be in C code that keeps the GIL, so that no Python code runs in this process."""
    gate.arrive("gil")
    ctypes.PyDLL(None).sleep(LONG)


def clean_up(gate: Gate, seconds: float) -> str:
    """Take so long to clean up after the time is up, and then return in spite of it."""
    try:
        time.sleep(LONG)
    except BaseException:
        gate.arrive("told")
        time.sleep(seconds)
        gate.arrive("cleaned")
    return "cleaned"


def times_out(future: Future[Any]) -> None:
    with pytest.raises(CallTimeout, match=f"its timeout of {TIMEOUT} s"):
        future.result(timeout=SOON)


SLOW_MODULE = """
import os, time
if os.getpid() != {parent}:
    {import_it}

def answer():
    return 42
"""


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Makes a module that takes its time to be imported, but not here."""

    def make(import_it: str) -> ModuleType:
        text = SLOW_MODULE.format(parent=os.getpid(), import_it=import_it)
        (tmp_path / "slow_to_import.py").write_text(text)
        return importlib.import_module("slow_to_import")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)
    return make


@pytest.mark.parametrize("import_it", ["time.sleep(1.5)", "sum(range(50_000_000))"])
def test_the_import_of_a_calls_function_is_no_part_of_its_time(
    make: Make, slow_module: Callable[[str], ModuleType], import_it: str
) -> None:
    answer = slow_module(import_it).answer
    executor = make(max_workers=1, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(timeout=30)
    assert executor.options(timeout=TIMEOUT).submit(answer).result(timeout=30) == 42
    assert executor.submit(pid_of).result(timeout=30) == pid


def be_impatient() -> None:
    runners._LOAD_SECONDS = 0.1


def test_an_import_that_never_ends_times_out(
    make: Make, slow_module: Callable[[str], ModuleType]
) -> None:
    answer = slow_module("time.sleep(60)").answer
    executor = make(max_workers=1, timeout_grace=0.3, initializer=be_impatient)
    times_out(executor.options(timeout=TIMEOUT).submit(answer))


ONLY_ONCE = """
import os, time
if os.path.exists({mark!r}):
    raise ImportError("cannot be imported again")
open({mark!r}, "w").close()
end = time.monotonic() + 0.6
while time.monotonic() < end:
    pass
"""


def import_it() -> str:
    return importlib.import_module("only_once").__name__


def import_it_and_burn() -> None:
    import_it()
    burn()


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_a_call_is_not_stopped_in_the_midst_of_an_import(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    mark = tmp_path / "begun"
    (tmp_path / "only_once.py").write_text(ONLY_ONCE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    executor = make(max_workers=1, timeout_grace=30.0)
    pid = executor.submit(pid_of).result(timeout=30)
    call = executor.options(timeout=timeout).submit(import_it_and_burn)
    wait_until(mark.exists)
    if timeout is None:
        assert call.cancel()
    else:
        times_out(call)
    assert executor.submit(import_it).result(timeout=30) == "only_once"
    assert executor.submit(pid_of).result(timeout=30) == pid


# -- rungs ------------------------------------------------------------------------------------


def test_a_call_that_waits_is_stopped_and_its_siblings_are_not(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    siblings = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    times_out(executor.options(timeout=TIMEOUT).submit(time.sleep, LONG))
    gate.open()
    assert [sibling.result(timeout=30) for sibling in siblings] == [0, 1, 2]
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_call_that_keeps_the_cpu_is_interrupted_and_its_siblings_are_not(
    make_each: Make, gate: Gate
) -> None:
    executor = make_each(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    siblings = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    times_out(executor.options(timeout=TIMEOUT).submit(burn))
    gate.open()
    assert [sibling.result(timeout=30) for sibling in siblings] == [0, 1, 2]
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_call_that_keeps_the_cpu_is_interrupted_though_the_pipe_is_full(
    make: Make, gate: Gate
) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    late = executor.options(timeout=TIMEOUT).submit(burn, gate)
    gate.wait_for(1)
    behind = [executor.submit(len, bytes(SHARED_FROM - 1000)) for _ in range(3)]
    times_out(late)
    assert [future.result(timeout=SOON) for future in behind] == [SHARED_FROM - 1000] * 3
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_an_interrupted_call_cleans_up_and_does_not_catch_it_by_exception(
    make: Make, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    executor = make(max_workers=1)
    times_out(executor.options(timeout=TIMEOUT).submit(burn_without_except_exception, cleaned))
    assert cleaned.arrived == ["cleaned"]


def test_an_interrupted_call_is_left_alone_while_it_cleans_up(
    make: Make, gate: Gate, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    executor = make(max_workers=1)
    view = executor.options(timeout=TIMEOUT)
    times_out(view.submit(burn_and_wait_while_cleaning_up, gate, cleaned))
    assert cleaned.arrived == ["cleaned"]


def test_an_interrupted_call_that_runs_again_is_interrupted_again(make: Make) -> None:
    executor = make(max_workers=1)
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
    executor = make(max_workers=1, monkey_patch=False)
    pid = executor.submit(pid_of).result(timeout=30)
    times_out(executor.options(timeout=TIMEOUT).submit(nap, LONG))
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_native_wait_without_any_python_code_ends_in_time(make: Make) -> None:
    executor = make(max_workers=1, monkey_patch=False, timeout_grace=0.3)
    times_out(executor.options(timeout=TIMEOUT).submit(time.sleep, LONG))
    executor.kill_workers()


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
    assert executor.submit(pid_of).result(timeout=30) != pid


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


def test_cancelling_a_call_that_keeps_the_cpu_frees_its_slot(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    pid = executor.submit(pid_of).result(timeout=30)
    future = executor.submit(burn, gate)
    gate.wait_for(1)
    assert future.cancel()
    assert executor.submit(pid_of).result(timeout=SOON) == pid


def test_a_cancelled_call_that_kept_the_cpu_is_left_alone_while_it_cleans_up(
    make: Make, gate: Gate, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    executor = make(max_workers=1, concurrency=1)
    future = executor.submit(burn_and_wait_while_cleaning_up, gate, cleaned)
    gate.wait_for(1)
    assert future.cancel()
    executor.submit(pid_of).result(timeout=SOON)
    assert cleaned.arrived == ["cleaned"]


LOCK, SEMAPHORE = threading.Lock(), threading.Semaphore()
LOGGER = logging.getLogger("test_deadlines")


def take_locks(way: str) -> None:
    """Take and give back locks for ever, in one way."""
    LOGGER.propagate = False
    LOGGER.handlers = [logging.StreamHandler(io.StringIO())]
    while True:
        if way == "logging":
            LOGGER.error("x")
        elif way == "semaphore":
            with SEMAPHORE:
                pass
        else:
            LOCK.acquire()
            try:
                pass
            finally:
                LOCK.release()


def free_locks() -> list[bool]:
    """Whether each lock can be had, by another thread than this."""
    locks: list[Any] = [LOCK, SEMAPHORE, logging._lock, *(h.lock for h in LOGGER.handlers)]
    taken: list[bool] = []

    def take() -> None:
        for lock in locks:
            taken.append(lock.acquire(timeout=5))
            if taken[-1]:
                lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken


@pytest.mark.parametrize("way", ["logging", "semaphore", "by hand"])
def test_a_stopped_call_leaves_no_lock_taken(make: Make, way: str) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    for n in range(6):
        late = executor.options(timeout=0.003 + n / 500).submit(take_locks, way)
        assert isinstance(late.exception(timeout=30), CallTimeout)
        assert set(executor.submit(free_locks).result(timeout=30)) == {True}
    assert executor.submit(pid_of).result(timeout=30) == pid


@pytest.mark.parametrize(
    ("function", "code"), [(eval, "sum(n for n in range(10**12))"), (exec, "while True: pass")]
)
def test_what_c_functions_run_is_interrupted(make: Make, function: Any, code: str) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    times_out(executor.options(timeout=TIMEOUT).submit(function, code))
    assert executor.submit(pid_of).result(timeout=30) == pid


PER_THREAD = threading.local()


def keep_and_wait() -> None:
    PER_THREAD.kept = "half done"
    time.sleep(LONG)


def kept() -> str | None:
    return getattr(PER_THREAD, "kept", None)


def test_what_a_stopped_call_kept_per_thread_is_seen_by_no_other(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    times_out(executor.options(timeout=TIMEOUT).submit(keep_and_wait))
    assert executor.submit(kept).result(timeout=30) is None


def test_a_call_whose_time_was_up_can_still_be_cancelled(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1, timeout_grace=SOON)
    pid = executor.submit(pid_of).result(timeout=30)
    future = executor.options(timeout=TIMEOUT).submit(clean_up, gate, LONG)
    gate.wait_for(1)
    assert future.cancel()
    assert executor.submit(pid_of).result(timeout=SOON) == pid


def test_shutdown_ends_when_the_deadlines_have(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3)
    futures = [executor.options(timeout=TIMEOUT).submit(f, gate) for f in (burn, swallow)]
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < SOON
    assert [type(future.exception(timeout=0)) for future in futures] == [CallTimeout] * 2


# -- nobody else is hit -----------------------------------------------------------------------


def sleep_in_steps(n: int) -> tuple[int, list[str]]:
    """What else is raised here, if anything."""
    caught = []
    for _ in range(20):
        try:
            time.sleep(0.01)
        except BaseException as error:
            caught.append(repr(error))
    return n, caught


def compute_in_steps(n: int) -> tuple[int, list[str]]:
    caught = []
    for _ in range(5):
        try:
            burn(seconds=0.002)
        except BaseException as error:
            caught.append(repr(error))
        time.sleep(0)
    return n, caught


def stress(executor: HybridExecutor, count: int) -> None:
    seeded = random.Random(count)
    siblings: list[tuple[int, Future[Any]]] = []
    burning: list[Future[Any]] = []
    for n in range(count):
        function = seeded.choice([sleep_in_steps, compute_in_steps])
        siblings.append((n, executor.submit(function, n)))
        siblings.append((n * n, executor.submit(square, n)))
        if n % 4 == 0:
            timeout = seeded.uniform(0.001, 0.02)
            burning.append(executor.options(timeout=timeout).submit(burn))
        if n % 8 == 1:
            burning.append(executor.submit(burn))
            time.sleep(seeded.uniform(0, 0.01))
            burning[-1].cancel()
    wait([future for _, future in siblings] + burning, timeout=100)
    for n, future in siblings:
        assert future.result(timeout=0) in (n, (n, []))
    for future in burning:
        assert future.cancelled() or isinstance(future.exception(timeout=0), CallTimeout | None)


def test_nothing_is_raised_in_a_sibling(make: Make) -> None:
    # On a machine that is very busy a deadline may cost its worker all the same.
    executor = make(max_workers=2, concurrency=20, timeout_grace=1.5, on_worker_loss="retry")
    stress(executor, 16)


@pytest.mark.slow
def test_nothing_is_raised_in_a_sibling_under_load(make: Make) -> None:
    # On a machine that is very busy a deadline may cost its worker all the same.
    executor = make(max_workers=2, concurrency=20, timeout_grace=1.5, on_worker_loss="retry")
    stress(executor, 200)


class Seconds(float):
    """As numpy's numbers are: a float, and yet not quite."""


def test_a_timeout_may_be_any_kind_of_number(make: Make) -> None:
    executor = make(max_workers=1)
    for timeout in (Seconds(20), np.float64(20), 20):
        assert executor.options(timeout=timeout).submit(abs, -3).result(timeout=30) == 3


# -- what cannot be cut short ---------------------------------------------------------------------

_condition = threading.Condition()


def keep_condition(gate: Gate) -> str:
    with _condition:
        gate.arrive("keeper")
        time.sleep(LONG)
    return "kept"


def wait_for_condition(waiting: Gate) -> None:
    with _condition:
        waiting.arrive("waiter")
        _condition.wait()


@pytest.mark.slow
def test_a_condition_whose_lock_never_comes_back_costs_the_worker_when_the_grace_is_over(
    make: Make, tmp_path: Path
) -> None:
    """The call would go on without what it thinks it has."""
    waiting, kept = Gate(tmp_path / "waiting"), Gate(tmp_path / "kept")
    executor = make(max_workers=1)
    waiter = executor.options(timeout=3).submit(wait_for_condition, waiting)
    waiting.wait_for(1)
    keeper = executor.submit(keep_condition, kept)
    kept.wait_for(1)
    assert isinstance(waiter.exception(timeout=SOON), CallTimeout)
    assert isinstance(keeper.exception(timeout=SOON), WorkerLost)
    assert executor.submit(square, 3).result(timeout=SOON) == 9
