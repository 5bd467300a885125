"""A Dask cluster on this machine, started by Dask's own commands.

Guarantees: its processes end when it is closed, and when this process ends, however that does.
(Those that ``distributed.deploy.subprocess`` starts outlive a process that is killed.) A fork of
this process neither ends them nor keeps them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from .. import native
from ..checks import usable_cpus
from ..parent import lifecycle
from ..parent.launch import interpreter
from . import dask

#: Seconds within which the scheduler and the nodes have to start, and to end.
_START_SECONDS, _END_SECONDS = 60.0, 10.0
#: Ends its process when nobody holds the other end of its standard input.
_PROGRAM = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
from distributed.cli.dask_{command} import main
main({arguments!r})
"""
_HERE = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]


def _search_path() -> str:
    """What is imported here is found by the nodes, too: modules beside the script, say."""
    return os.pathsep.join(path or os.getcwd() for path in interpreter.search_path())


class LocalCluster:
    """A scheduler and some nodes."""

    def __init__(self, nodes: int) -> None:
        """Start them; returns when the scheduler is there and all nodes have told it of themselves.

        Raises:
            RuntimeError: one of them has ended instead, or the scheduler does not get ready.
            TimeoutError: a node does not.
        """
        self._owner = os.getpid()
        self._processes: list[subprocess.Popen[bytes]] = []
        with contextlib.ExitStack() as opened:
            # They end when nobody holds the second any more.
            self._watched, lifeline = os.pipe()
            opened.callback(native.close, self._watched)
            lifecycle.keep(lifeline, opened)
            # Not a TemporaryDirectory, which a fork would remove at its end.
            self._folder = tempfile.mkdtemp(prefix="hybridexec-cluster-")
            opened.callback(shutil.rmtree, self._folder, ignore_errors=True)
            #: Closes and removes these, once.
            self._opened = opened.pop_all()
        atexit.register(self.close)
        try:
            file = os.path.join(self._folder, "scheduler.json")
            self._start("scheduler", *_HERE, "--port", "0", "--scheduler-file", file)
            #: The scheduler's address.
            self.address = self._address(file)
            threads = str(max(1, usable_cpus() // nodes))
            for number in range(1, nodes + 1):
                folder = os.path.join(self._folder, f"node-{number}")
                more = ["--name", f"node-{number}", "--nthreads", threads, "--no-nanny"]
                self._start("worker", self.address, *_HERE, *more, "--local-directory", folder)
            dask.wait_for_workers(self.address, nodes, self._look, _START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _start(self, command: str, *arguments: str) -> None:
        quiet = {"DASK_LOGGING__DISTRIBUTED": "error"}
        program = _PROGRAM.format(command=command, arguments=list(arguments))
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=self._watched,
                start_new_session=True,
                env={**quiet, **os.environ, "PYTHONPATH": _search_path()},
            )
        )

    def _address(self, file: str) -> str:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            self._look()
            with contextlib.suppress(OSError, ValueError), open(file, encoding="utf-8") as opened:
                address: str = json.load(opened)["address"]
                return address
            time.sleep(0.02)
        raise RuntimeError(f"the scheduler was not ready within {_START_SECONDS:.0f} s")

    def _look(self) -> None:
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                who = f"node {number}" if number else "the scheduler"
                raise RuntimeError(f"{who} has ended; look for its own messages on stderr")

    def close(self) -> None:
        """End them; does nothing if that was done, or in a fork."""
        atexit.unregister(self.close)
        if os.getpid() != self._owner:
            return
        # The nodes first: one that closes while its scheduler does waits for itself, and hangs.
        self._end(self._processes[1:])
        self._end(self._processes[:1])
        self._processes.clear()
        self._opened.close()

    @staticmethod
    def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            process.terminate()
        end = time.monotonic() + _END_SECONDS
        for process in processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
