"""Workers that hold too much memory are replaced, and nobody notices but for their pids."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future

import pytest

from hybridexec import HybridExecutor, native

from .conftest import Make
from .helpers import Gate, identity, wait_until

pytestmark = pytest.mark.every_lane

MIB = 1 << 20
_kept: list[bytearray] = []


def leak(size: int, seconds: float = 0.01) -> tuple[int, int]:
    """Keep so many bytes for good; the process, and how many it has in RAM now."""
    _kept.append(bytearray(b"x") * size)
    time.sleep(seconds)
    return os.getpid(), native.resident_bytes(os.getpid()) or 0


def limit(executor: HybridExecutor) -> int:
    """What a fresh worker holds, and 100 MiB."""
    return executor.submit(leak, 1).result(timeout=30)[1] + 100 * MIB


@pytest.mark.slow
def test_a_worker_that_holds_too_much_is_replaced() -> None:
    with HybridExecutor(1) as scale:
        bound = limit(scale)
    with HybridExecutor(1, max_memory_per_child=bound, concurrency=2) as executor:
        results = list(executor.map(leak, [10 * MIB] * 100, [0.05] * 100, timeout=60))
    assert len(results) == 100
    pids = [pid for pid, _ in results]
    assert 2 <= len(set(pids)) < 40
    # It is looked at twice a second, and a second's calls leak 400 MiB.
    assert max(resident for _, resident in results) < bound + 500 * MIB


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_its_running_calls_finish_and_its_others_move(make: Make, gate: Gate) -> None:
    with HybridExecutor(1) as scale:
        bound = limit(scale)
    executor = make(max_workers=1, concurrency=2, max_memory_per_child=bound)
    old, _ = executor.submit(leak, 1).result(timeout=30)
    long = executor.submit(gate.wait, "long")
    gate.wait_for(1)
    assert executor.submit(leak, 200 * MIB).result(timeout=30)[0] == old

    def ran_elsewhere() -> bool:
        return executor.submit(os.getpid).result(timeout=30) != old

    wait_until(ran_elsewhere)
    assert not long.done()
    assert {worker.state for worker in executor.stats().workers} == {"retiring", "ready"}
    gate.open()
    assert long.result(timeout=30) == "long"
    wait_until(lambda: [worker.state for worker in executor.stats().workers] == ["ready"])


def test_a_limit_below_what_a_fresh_worker_holds_loses_no_call(make: Make) -> None:
    executor = make(max_memory_per_child=MIB)
    futures: list[Future[int]] = []
    pids: set[int] = set()

    def several_were_replaced() -> bool:
        futures.append(executor.submit(identity, len(futures)))
        pids.add(executor.submit(os.getpid).result(timeout=30))
        return len(pids) > 4

    wait_until(several_were_replaced)
    assert [future.result(timeout=30) for future in futures] == list(range(len(futures)))


@pytest.mark.parametrize("wrong", [0, -1, True, "1 GiB", 1.5])
def test_the_limit_is_checked(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="max_memory_per_child"):
        HybridExecutor(1, max_memory_per_child=wrong)
