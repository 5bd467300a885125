"""A parent that is about to be interrupted or killed: ``endings.py METHOD FORM WORK``.

It prints ``ready`` and the pids of its family when calls run that would take a minute, and then
waits in some way until something happens to it.
"""

import sys

if __name__ == "__main__" and sys.argv[2] == "gevent":
    from gevent import monkey

    monkey.patch_all()

import asyncio
import contextlib
import multiprocessing
import re
import signal
import threading
import time
from concurrent.futures import CancelledError

import psutil

from hybridexec import HybridExecutor

MINUTE = 60
#: Calls that run or wait, by what they do.
COUNTS = {"sleep": 1000, "stubborn": 4, "burn": 4, "gil": 4, "nested": 1}


def sleep():
    time.sleep(MINUTE)


def stubborn():
    end = time.monotonic() + MINUTE
    while time.monotonic() < end:
        try:
            time.sleep(MINUTE)
        except BaseException:
            pass


def burn():
    end = time.monotonic() + MINUTE
    while time.monotonic() < end:
        pass


def gil():
    """Stay in C code, which never lets go of the GIL."""
    re.match("(a+)+b", 50 * "a")


def nested():
    executor = HybridExecutor(1, multiprocessing.get_context(METHOD))
    executor.submit(gil).result()


METHOD, FORM, WORK = sys.argv[1:4]
CALL = globals()[WORK]
COUNT = COUNTS[WORK]


def work(_):
    CALL()


def family():
    """The processes that descend from this one, but for the trackers."""
    pids = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(process.cmdline()):
                pids.append(process.pid)
    return pids


class Parent:
    def __init__(self):
        self.executor = HybridExecutor(2, multiprocessing.get_context(METHOD))
        self.finished = [self.executor.submit(pow, 2, n) for n in range(10)]
        for future in self.finished:
            future.result()
        self.left = []

    def submit(self):
        self.left = [self.executor.submit(CALL) for _ in range(COUNT)]

    def ready(self):
        """Say who is there, once both workers are at work."""
        while sum(worker.running > 0 for worker in self.executor.stats().workers) < min(2, COUNT):
            time.sleep(0.01)
        time.sleep(0.3)  # what runs is in the midst of it
        while len(ours := family()) < (3 if WORK == "nested" else 0):
            time.sleep(0.01)  # a nested executor's worker too
        print("ready", *ours, flush=True)

    def tell(self):
        """Say what can still be read when it is over."""
        good = [future.result() for future in self.finished] == [2**n for n in range(10)]
        over = all(future.cancelled() or future.exception(0) for future in self.left)
        print("finished:", good, "left:", over, flush=True)


def in_with(parent):
    """The wait is in the block."""
    try:
        with parent.executor:
            parent.submit()
            parent.ready()
            parent.left[0].result()
    finally:
        parent.tell()


def at_end_of_with(parent):
    """The block has ended."""
    try:
        with parent.executor:
            parent.submit()
            parent.ready()
    finally:
        parent.tell()


def plain(parent):
    parent.submit()
    parent.ready()
    parent.left[-1].result()


gevent = in_with


def at_exit(parent):
    """The script has ended, and the interpreter waits."""
    parent.submit()
    parent.ready()


def shutdown(parent):
    try:
        parent.submit()
        parent.ready()
        parent.executor.shutdown()
    finally:
        parent.tell()


def mapped(parent):
    results = parent.executor.map(work, range(COUNT))
    parent.ready()
    list(results)


def lazy(parent):
    with parent.executor:
        results = parent.executor.map_unordered(work, range(COUNT))
        threading.Thread(target=parent.ready).start()
        list(results)


def thread(parent):
    """Somebody else waits; nobody joins the thread."""

    def wait():
        try:
            parent.left[0].result()
        except CancelledError:
            print("cancelled", flush=True)

    parent.submit()
    threading.Thread(target=wait).start()
    parent.ready()
    time.sleep(MINUTE)


def in_asyncio(parent):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(parent.executor, CALL) for _ in range(COUNT)]
        await asyncio.sleep(0.1)
        parent.ready()
        await asyncio.gather(*calls)

    asyncio.run(main())


def with_in_asyncio(parent):
    async def main():
        loop = asyncio.get_running_loop()
        with parent.executor:
            calls = [loop.run_in_executor(parent.executor, CALL) for _ in range(COUNT)]
            await asyncio.sleep(0.1)
            parent.ready()
            await asyncio.wait(calls)

    asyncio.run(main())


def terminated(parent):
    """SIGTERM is as good as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    in_with(parent)


if __name__ == "__main__":
    # A test that runs in the background of a shell ignores Ctrl-C, and so would this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = Parent()  # not collected before the interpreter exits
    globals()[FORM](parent)
