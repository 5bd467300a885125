"""What this process has: to be compared before and after."""

from __future__ import annotations

import gc
import os
import tempfile
import time

import psutil

#: Seconds in which what has ended must be gone.
PATIENCE = 60.0

#: Things of this process, by kind.
Belongings = dict[str, set[str]]


def belongings() -> Belongings:
    """Processes, threads, descriptors, shared memory and temporary files of now."""
    with open("/proc/self/maps") as maps:
        mapped = {line.split()[0] for line in maps if "/memfd:" in line or "/dev/shm" in line}
    return {
        "processes": set(_processes()),
        "threads": set(os.listdir("/proc/self/task")),
        "descriptors": set(_descriptors()),
        "mapped memory": mapped,
        # Semaphores are other programs': the library makes none.
        "/dev/shm": {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")},
        "temporary files": set(os.listdir(tempfile.gettempdir())),
    }


def _processes() -> list[str]:
    """The processes below this one, but multiprocessing's tracker, which is one for all."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline())
            if "resource_tracker" not in command:
                found.append(f"{child.pid} {child.status()} {command[-60:]}")
        except psutil.NoSuchProcess:
            continue
    return found


def _descriptors() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def left_behind(before: Belongings) -> Belongings:
    """What there is more than ``before``, once there has been time for it to go."""
    deadline = time.monotonic() + PATIENCE
    while True:
        # An executor goes when the collector finds it: errors of calls that could not be pickled
        # have tracebacks, and those have frames that know it.
        gc.collect()
        now = belongings()
        more = {kind: now[kind] - before[kind] for kind in now if now[kind] - before[kind]}
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.1)
