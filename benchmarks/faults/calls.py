"""What the calls of the fault scenarios do. Imported by workers, so it imports little."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

#: The file in which calls tell that they were stopped has the other file's name and this.
STOPPED = "-stopped"


def work(number: int) -> int:
    """A neighbour: long enough to be in flight when something happens."""
    time.sleep(0.5)
    return number * 7


def segfault() -> None:
    """What a bug in a C extension does."""
    time.sleep(0.2)
    ctypes.string_at(0)


def leave() -> None:
    """What a command line tool does when it is done."""
    sys.exit(3)


def raise_unrebuildable() -> None:
    """Raise what pickles, and cannot be rebuilt from that: common among exceptions of libraries."""
    raise Unrebuildable("one", "two")


class Unrebuildable(Exception):
    """Its arguments are not what it passes to its base."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def give_lock() -> Any:
    """Return what cannot be pickled."""
    return threading.Lock()


def take(value: object) -> None:
    """Be given something."""


def tell_pid(path: str) -> int:
    """Say where this runs."""
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    return os.getpid()


def sleep_on(path: str) -> None:
    """Tell the pid, and sleep for longer than anybody waits; tell if stopped."""
    tell_pid(path)
    try:
        time.sleep(600)
    finally:
        tell_pid(path + STOPPED)


def burn_on(path: str) -> None:
    """Tell the pid, and use the CPU for longer than anybody waits; tell if stopped."""
    tell_pid(path)
    try:
        while True:
            pass
    finally:
        tell_pid(path + STOPPED)


def fail_to_start() -> None:
    """An initializer that fails."""
    raise RuntimeError("no licence for this machine")


async def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Any of the above, for those who need it async."""
    return function(*arguments)
