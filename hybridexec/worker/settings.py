"""Sets a worker as the executor was asked to, before the initializer runs.

Thread: main, before there is another of ours. Threads that libraries have started by then are set,
too: on Linux, CPUs and niceness are a thread's own.
Guarantees: what cannot be set is an error that says so, and ends the worker's start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..settings import Settings

# What limits native threads, kept because they are unlimited again when it goes.
_limits: Any = None


def apply(settings: Settings) -> None:
    """Set this process; its ``affinity`` has one entry at most."""
    if settings.affinity:
        _bind(settings.affinity[0])
    if settings.nice:
        _be_nice(settings.nice)
    if settings.threads:
        _limit_threads(settings)


def _bind(cpus: tuple[int, ...]) -> None:
    try:
        for thread in _threads():
            os.sched_setaffinity(thread, cpus)
    except OSError as error:
        raise RuntimeError(
            f"affinity: this worker cannot be bound to CPU {', '.join(map(str, cpus))}, though "
            f"its parent could use it when the executor was made: {error}"
        ) from error


def _be_nice(more: int) -> None:
    try:
        for thread in _threads():
            now = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, now + more)
    except OSError as error:
        raise RuntimeError(
            f"nice={more}: the system refuses that to this worker ({error}). Less than 0 needs "
            "root, CAP_SYS_NICE, or a limit that allows it (ulimit -e, LimitNICE=)"
        ) from error


def _threads() -> Iterable[int]:
    """This process's threads, by the numbers that the system knows them by."""
    try:
        return list(map(int, os.listdir("/proc/self/task")))
    except FileNotFoundError:  # no /proc here
        return [0]


def _limit_threads(settings: Settings) -> None:
    """Limit libraries that are loaded, and those that will be."""
    global _limits
    import threadpoolctl

    os.environ.update(settings.environment)  # a forked worker has not booted
    _limits = threadpoolctl.threadpool_limits(settings.threads)
