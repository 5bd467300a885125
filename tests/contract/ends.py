"""What tests of the ends of workers and executors share."""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
from typing import Any

import psutil


def fail_initializing(queue: Any = None) -> None:
    if queue is not None:
        logger = logging.getLogger("concurrent.futures")
        logger.addHandler(logging.handlers.QueueHandler(queue))
        logger.propagate = False
    raise ValueError("no luck")


# -- workers that die -----------------------------------------------------------------------------


def die(how: str) -> None:
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


# -- shutdown -------------------------------------------------------------------------------------


def workers_of(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes below this one, but multiprocessing's tracker, which is one for all, and the
    servers that other tests have started."""
    found = []
    for child in (process or psutil.Process()).children(recursive=True):
        try:
            command = " ".join(child.cmdline())
            if "resource_tracker" not in command and "loopback_server.py" not in command:
                found.append(child)
        except psutil.Error:
            continue
    return found
