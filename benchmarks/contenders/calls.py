"""The functions that workers run: each imports this module, so it imports little itself."""

from __future__ import annotations

import os
import re
import time
from functools import cache
from typing import Any


def noop() -> None:
    """Nothing at all: what is left is the price of a call."""


def same(value: Any) -> Any:
    """The least that a map can do for each item."""
    return value


def sleep(seconds: float) -> None:
    """Wait, as a plain blocking program does."""
    time.sleep(seconds)


def wait_in_c(microseconds: int) -> None:
    """Wait in C code that knows nothing of Python, as a driver does."""
    import ctypes

    ctypes.CDLL(None).usleep(microseconds)


def burn(seconds: float) -> None:
    """Use so much CPU time, however much of the CPU others take."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(1000):
            pass


def moment() -> float:
    """When this call ends, by the clock that all processes share."""
    return time.monotonic()


def wait_for(path: str) -> None:
    """Wait until a file exists."""
    while not os.path.exists(path):
        time.sleep(0.02)


def hold_gil() -> None:
    """A catastrophic regular expression: holds the GIL for longer than anybody waits."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def announce(fd_path: str) -> None:
    """Add a byte to a file: as an initializer it tells that one more worker is ready."""
    fd = os.open(fd_path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b".")
    os.close(fd)


@cache
def array(megabytes: int) -> Any:
    """A numpy array of random numbers, made once in each process."""
    import numpy as np

    return np.random.default_rng(7).random(megabytes * 2**20 // 8)


def touch(numbers: Any) -> float:
    """Read a number from every page of an array: memory that is mapped late is paid for here."""
    return float(numbers[::512].sum())


async def async_noop() -> None:
    """:func:`noop` for those who need it async."""


async def async_sleep(seconds: float) -> None:
    """:func:`sleep` for those who need it async."""
    import asyncio

    await asyncio.sleep(seconds)
