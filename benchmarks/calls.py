"""The functions that workers run: each imports this module, so it imports little itself."""

from __future__ import annotations

import os
import re
import time


def noop() -> None:
    """Nothing at all: what is left is the price of a call."""


def same(value: int) -> int:
    """The least that a map can do for each item."""
    return value


def sleep(seconds: float) -> None:
    """Wait, as a plain blocking program does."""
    time.sleep(seconds)


def burn(seconds: float) -> None:
    """Use so much CPU time, however much of the CPU others take."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(1000):
            pass


def hold_gil() -> None:
    """A catastrophic regular expression: holds the GIL for longer than anybody waits."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def announce(fd_path: str) -> None:
    """Add a byte to a file: as an initializer it tells that one more worker is ready."""
    fd = os.open(fd_path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b".")
    os.close(fd)


async def async_noop() -> None:
    """:func:`noop` for those who need it async."""


async def async_sleep(seconds: float) -> None:
    """:func:`sleep` for those who need it async."""
    import asyncio

    await asyncio.sleep(seconds)
