"""How many descriptors an executor takes in the process that has it, and what it does with few."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import Gate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and pidfds")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _taken(make: Make, gate: Gate, workers: int) -> int:
    """How many descriptors an executor with so many busy workers takes."""
    before = _descriptors()
    with make(max_workers=workers, concurrency=1) as executor:
        futures = [executor.submit(gate.wait, number) for number in range(workers)]
        gate.wait_for(workers)
        during = _descriptors()
        gate.open()
        assert [future.result(timeout=30) for future in futures] == list(range(workers))
    return during - before


@pytest.mark.slow
def test_a_worker_takes_five_descriptors_and_an_executor_ten(
    make_each: Make, tmp_path: Path
) -> None:
    resource_tracker.ensure_running()  # one for all executors of the process
    _taken(make_each, Gate(tmp_path / "first"), 1)  # what is opened once
    gc.collect()
    one, four = (_taken(make_each, Gate(tmp_path / str(count)), count) for count in (1, 4))
    each = (four - one) / 3
    assert each <= 5
    assert one - each <= 10


SIXTY_FOUR = """
import logging, multiprocessing, os, resource, sys, time
from hybridexec import HybridExecutor

resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))

def meet(folder):
    with open(os.path.join(folder, str(os.getpid())), "x"):
        pass
    while len(os.listdir(folder)) < 64:
        time.sleep(0.05)
    return os.getpid()

if __name__ == "__main__":
    method, concurrency, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    context = multiprocessing.get_context(method)
    with HybridExecutor(64, context, concurrency=concurrency) as executor:
        # Only as many calls as workers: none gets two of them, since all have to be there at once.
        print(len(set(executor.map(meet, [folder] * 64))))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("method", "concurrency"),
    [("forkserver", 1), ("forkserver", 500), ("spawn", 1), ("fork", 500)],
)
def test_512_descriptors_are_enough_for_64_workers(
    tmp_path: Path, method: str, concurrency: int
) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "met"
    script.write_text(SIXTY_FOUR, encoding="utf-8")
    folder.mkdir()
    command = [sys.executable, str(script), method, str(concurrency), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "64", done.stderr
    assert "tried again" not in done.stderr, "all could be started at once"


def parent_process(_: object) -> tuple[bool, int | None, str]:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join(0)
    return parent.is_alive(), parent.pid, parent.name


def test_a_worker_knows_its_parent_process(executor: HybridExecutor) -> None:
    (known,) = executor.map(parent_process, [None])
    assert known == (True, os.getpid(), multiprocessing.current_process().name)
