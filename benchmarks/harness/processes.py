"""CPU time and memory of this process and of those it has started."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable

from .question import Skip

try:
    import psutil
except ImportError:
    raise Skip("psutil is not installed") from None


def this() -> psutil.Process:
    """This process."""
    return psutil.Process()


def process(pid: int) -> psutil.Process:
    """That process."""
    return psutil.Process(pid)


def relatives(*, but: int | None = None) -> list[psutil.Process]:
    """All living descendants of this process, without process ``but``."""
    return [child for child in psutil.Process().children(recursive=True) if child.pid != but]


def families(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes, and all their living descendants."""
    heads = [psutil.Process(pid) for pid in pids]
    return heads + [child for head in heads for child in head.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """User and system time that these processes have used so far."""
    return sum(_cpu_seconds_of(process) for process in processes)


def _cpu_seconds_of(process: psutil.Process) -> float:
    if sys.platform == "linux":
        # The process's CPU clock (clock_getcpuclockid(3)) counts nanoseconds, /proc hundredths.
        return time.clock_gettime(~process.pid << 3 | 2)
    times = process.cpu_times()
    return times.user + times.system


def cost(run: Callable[[], int], count: int, *, but: int | None = None) -> dict[str, float]:
    """Run so many things: seconds in all, and the CPU time of this process and its descendants but
    one, in microseconds for each."""
    family = [this(), *relatives(but=but)]
    cpu = cpu_seconds(family)
    start = time.perf_counter()
    assert run() == count
    wall = time.perf_counter() - start
    return {"wall": wall, "cpu": (cpu_seconds(family) - cpu) / count * 1e6}


def private_bytes(processes: list[psutil.Process]) -> int:
    """Memory that belongs to these processes alone, shared pages left out."""
    return sum(process.memory_full_info().uss for process in processes)
