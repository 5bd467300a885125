"""Keeps workers from sharing what modules of ``preload`` left in the fork server.

Thread: the fork server's only one; :func:`start_anew` in each worker forked from it.
Guarantees: buffered output of these modules is written once, not again by each worker; numpy's
global random numbers differ between workers, as those of Python's ``random`` do.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys


def write_out() -> None:
    """Write what files and the handlers of logging keep in buffers."""
    logging = sys.modules.get("logging")
    if logging is not None:
        for reference in list(logging._handlerList):
            _flush(reference())
    # Text before the bytes that it becomes.
    for kind in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
        for found in gc.get_objects():
            if issubclass(type(found), kind):  # isinstance() would load a lazy module
                _flush(found)
    # Those may be of any kind.
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _flush(stream: object) -> None:
    with contextlib.suppress(Exception):  # closed, not writable, or its reader is gone
        stream.flush()  # type: ignore[attr-defined]  # or it is not


def start_anew() -> None:
    """Give this worker random numbers of its own."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):  # the user's own generator, which takes no seed
            random.seed()
