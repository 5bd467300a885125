"""What is patched in workers, and on which thread functions go."""

from __future__ import annotations

import time
from pathlib import Path

import gevent
import pytest

from hybridexec import HybridExecutor, native

from .conftest import Make
from .helpers import Gate, nap, overlap, pid_of, use_gevent, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


# -- where calls run ------------------------------------------------------------------------------


# -- gevent and asyncio inside calls --------------------------------------------------------------


# -- monkey_patch ---------------------------------------------------------------------------------


def patched_modules(_: int = 0) -> list[str]:
    from gevent import monkey

    return [name for name in ("time", "socket", "threading") if monkey.is_module_patched(name)]


def test_everything_is_patched_by_default(executor: HybridExecutor) -> None:
    assert executor.submit(patched_modules).result() == ["time", "socket", "threading"]


def test_monkey_patch_false_patches_nothing_and_calls_still_run(make_each: Make) -> None:
    executor = make_each(max_workers=1, monkey_patch=False)
    assert executor.submit(patched_modules).result(timeout=30) == []
    # An unpatched sleep keeps the whole worker waiting.
    first, second = executor.map(nap, [0.05, 0.05])
    assert not overlap(first, second)


def test_without_patching_gevents_own_calls_cooperate(make: Make) -> None:
    executor = make(max_workers=1, monkey_patch=False)
    assert list(executor.map(use_gevent, [4] * 5)) == [6] * 5


def test_a_mapping_gives_patch_alls_switches(make_each: Make) -> None:
    executor = make_each(max_workers=1, monkey_patch={"socket": False, "thread": False})
    assert executor.submit(patched_modules).result(timeout=30) == ["time"]


def test_pids_are_the_workers(executor: HybridExecutor) -> None:
    assert executor.submit(pid_of).result() in executor._processes


def thread_of(_: object = None) -> int:
    """The system's thread."""
    ident: int = native.original("_thread", "get_ident")()
    return ident


class TellsItsEnd:
    """A function that says, when it goes, on which thread that is."""

    def __init__(self, ends: Gate) -> None:
        self.ends = ends
        self.called = False

    def __call__(self, n: int) -> int:
        self.called = True
        return n

    def __del__(self) -> None:
        if self.called:
            self.ends.arrive(thread_of())


def test_functions_go_on_the_main_thread_also_while_a_call_keeps_it(
    make: Make, gate: Gate, tmp_path: Path
) -> None:
    executor = make(max_workers=1, concurrency=5)
    main = executor.submit(thread_of).result(timeout=30)
    first, ends = Gate(tmp_path / "first"), Gate(tmp_path / "ends")
    executor.submit(first.hog, "hog")
    first.wait_for(1)
    # All of this arrives at once, so that the hub does not get to see that the map is over.
    results = executor.map(TellsItsEnd(ends), range(3))
    hog = executor.submit(gate.hog, "hog")
    first.open()
    assert list(results) == [0, 1, 2]
    gate.wait_for(1)
    other = executor.submit(nap, 0)
    wait_until(lambda: executor.stats().pending == 0)
    assert other.cancel()  # which the helper thread hears of, and reads all there is
    nap(0.1)
    gate.open()
    hog.result(timeout=30)
    ends.wait_for(1)
    assert ends.arrived == [str(main)]


def kill_own_greenlet(n: int) -> int:
    """What kills it arrives when the call is over: it hits who runs the calls."""
    if n % 5 == 0:
        gevent.getcurrent().kill(block=False)
    end = time.monotonic() + 0.012
    while time.monotonic() < end:
        pass
    return n


@pytest.mark.parametrize("concurrency", [1, 3])
def test_who_runs_the_calls_is_replaced_if_it_is_killed(make: Make, concurrency: int) -> None:
    executor = make(max_workers=1, concurrency=concurrency)
    assert list(executor.map(kill_own_greenlet, range(40), timeout=60)) == list(range(40))
