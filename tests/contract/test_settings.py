"""How workers are set: names, CPUs, niceness, native threads; and how that is refused."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from hybridexec import ExecutorBroken, HybridExecutor

from .conftest import Make
from .helpers import Gate, pid_of, run_script, wait_until

pytestmark = pytest.mark.slow_on("spawn")


def niceness() -> list[int]:
    """Of each of the worker's threads."""
    return [os.getpriority(os.PRIO_PROCESS, int(each)) for each in os.listdir("/proc/self/task")]


def cpus() -> set[int]:
    return os.sched_getaffinity(0)


def cpus_of_threads() -> list[set[int]]:
    return [os.sched_getaffinity(int(each)) for each in os.listdir("/proc/self/task")]


def resolver() -> tuple[str, int]:
    import gevent

    socket.getaddrinfo("localhost", 80)
    hub: Any = gevent.get_hub()
    return f"{type(hub.resolver).__module__}.{type(hub.resolver).__name__}", hub.threadpool.maxsize


# -- names ------------------------------------------------------------------------------------


def test_names_are_looked_up_by_so_many_threads(make_each: Make) -> None:
    executor = make_each(max_workers=1, dns_threads=33)
    name, size = executor.submit(resolver).result(timeout=60)
    assert (name, size) == ("gevent.resolver.thread.Resolver", 33)


@pytest.mark.parametrize("chosen", ["ares", "block", "dnspython"])
def test_names_are_looked_up_by_the_resolver_that_was_chosen(make: Make, chosen: Any) -> None:
    if chosen == "dnspython":
        pytest.importorskip("dns")
    executor = make(max_workers=1, resolver=chosen)
    name, _ = executor.submit(resolver).result(timeout=60)
    assert name == f"gevent.resolver.{'blocking' if chosen == 'block' else chosen}.Resolver"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"resolver": "bind"}, "resolver must be one of 'thread', 'ares', 'dnspython', 'block'"),
        ({"dns_threads": 0}, "dns_threads must be greater than 0"),
        ({"dns_threads": 3, "resolver": "ares"}, "dns_threads goes with resolver='thread' only"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        HybridExecutor(1, **arguments)


def test_a_resolver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'hybridexec\[dnspython\]'"):
        HybridExecutor(1, resolver="dnspython")


# -- CPU time ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_workers_are_as_nice_as_asked_for_with_all_their_threads(make_each: Make) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    executor = make_each(max_workers=1, nice=3)
    assert set(executor.submit(niceness).result(timeout=60)) == {mine + 3}
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_all_workers_are_bound_to_the_cpu_that_was_named_with_all_their_threads(
    make_each: Make,
) -> None:
    cpu = max(cpus())
    executor = make_each(max_workers=1, affinity=[cpu])
    each = executor.submit(cpus_of_threads).result(timeout=60)
    assert all(one == {cpu} for one in each)


TWO = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two CPUs",
)


def at_gate(gate: Gate, number: int) -> tuple[int, set[int]]:
    gate.wait(number)
    return os.getpid(), cpus()


@TWO
@pytest.mark.parametrize("given", ["auto", "each", "lists"])
def test_each_worker_has_cpus_of_its_own_and_who_replaces_it_the_same(
    make: Make, tmp_path: Path, given: str
) -> None:
    one, other = sorted(cpus())[:2]
    affinity: Any = {"auto": "auto", "each": [one, other], "lists": [[one], [other]]}[given]
    executor = make(max_workers=2, concurrency=1, affinity=affinity)

    def bound(folder: str) -> dict[int, set[int]]:
        gate = Gate(tmp_path / folder)
        futures = [executor.submit(at_gate, gate, number) for number in range(2)]
        gate.wait_for(2)
        gate.open()
        return dict(future.result(timeout=60) for future in futures)

    before = bound("before")
    assert sorted(map(sorted, before.values())) == [[one], [other]]
    victim = next(iter(before))
    os.kill(victim, 9)
    wait_until(lambda: victim not in [worker.pid for worker in executor.stats().workers])
    after = bound("after")
    assert sorted(map(sorted, after.values())) == [[one], [other]]
    assert len(before.keys() | after.keys()) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ([100_000], "affinity names CPU 100000, which this process may not use: it may use"),
        ([[0], [0], [0]], "each of the 2 workers"),
        ([[]], "leaves a worker no CPU"),
        (["0"], "must be an integer"),
        (3, "must be 'auto', or a list"),
        ("all", "must be 'auto', or a list"),
    ],
)
def test_cpus_that_cannot_be_had_are_named(wrong: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        HybridExecutor(2, affinity=wrong)


REFUSED = """
import ctypes, os
import hybridexec

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)  # not even root may, in programs run from here
    with hybridexec.HybridExecutor(1, nice=-5) as executor:
        try:
            executor.submit(os.getpid).result(timeout=60)
        except hybridexec.ExecutorBroken as error:
            print("nice=-5: the system refuses that to this worker" in str(error), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's capabilities")
def test_niceness_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", REFUSED)
    assert done.stdout.split() == ["True"]


def test_a_worker_that_cannot_be_set_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs sched_setaffinity")
    # As if it had been usable when the executor was made.
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {500})
    executor = make(max_workers=1, affinity=[500])
    with pytest.raises(ExecutorBroken, match="cannot be bound to CPU 500"):
        executor.submit(pid_of).result(timeout=60)


# -- native threads -----------------------------------------------------------------------------


def native_threads() -> tuple[dict[str, int], str | None]:
    import numpy as np
    import threadpoolctl

    assert (np.ones((8, 8)) @ np.ones((8, 8)))[0, 0] == 8
    found = {each["user_api"]: each["num_threads"] for each in threadpoolctl.threadpool_info()}
    return found, os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("preload", [(), ("numpy",)])
def test_blas_uses_no_more_threads_than_it_may(make_each: Make, preload: tuple[str, ...]) -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("threadpoolctl")
    executor = make_each(max_workers=1, threadpool_limits=1, preload=preload)
    threads, openmp = executor.submit(native_threads).result(timeout=60)
    assert threads["blas"] == 1
    assert openmp == "1"


def test_kinds_of_libraries_are_limited_apart(make: Make) -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("threadpoolctl")
    executor = make(max_workers=1, threadpool_limits={"blas": 1})
    threads, openmp = executor.submit(native_threads).result(timeout=60)
    assert threads["blas"] == 1
    assert openmp == os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("wrong", [0, -1, True, "1", {"gpu": 1}, {"blas": 0}])
def test_limits_are_checked(wrong: Any) -> None:
    pytest.importorskip("threadpoolctl")
    with pytest.raises((TypeError, ValueError), match="threadpool_limits"):
        HybridExecutor(1, threadpool_limits=wrong)


def test_without_threadpoolctl_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'hybridexec\[threadpoolctl\]'"):
        HybridExecutor(1, threadpool_limits=1)
