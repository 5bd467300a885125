"""A real Dask cluster: a scheduler and nodes, each a process of Dask's own commands."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil

from . import processes
from .certificates import Certificates
from .processes import wait_until

#: Where modules are that nodes import functions of tests from.
TESTS = Path(__file__).resolve().parents[1]
#: What the worker's command says when it has joined.
_JOINED = "Registered to:"
#: Seconds in which what was asked to end must have ended.
_END_SECONDS = 10.0

HOST = "127.0.0.1"


class Process:
    """The scheduler, or a node."""

    def __init__(
        self, dask: Dask, name: str, command: Sequence[str], environment: dict[str, str]
    ) -> None:
        self.name = name
        self.mark = f"{dask.mark}/{name}"
        self.log = dask.folder / f"{name}.log"
        self.popen = processes.start(self.mark, command, dask.folder, self.log, environment)

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self.log.read_text("utf-8", "replace")

    def check(self) -> bool:
        """Fail the test if it has ended; always true."""
        assert self.popen.poll() is None, f"{self.name} has ended:\n{self.said}"
        return True

    def processes(self) -> list[psutil.Process]:
        """All of its processes, those that belong to nobody any more included."""
        return processes.marked(self.mark)

    def kill(self) -> None:
        """Kill this process, and none of those that it has started."""
        self.popen.kill()
        self.popen.wait()

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        processes.send(self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        processes.send(self.processes(), signal.SIGCONT)

    def end(self) -> None:
        """Ask it to end, and see that it does."""
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            self.popen.terminate()
        try:
            self.popen.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def gone(self) -> bool:
        """Whether nothing of it is left."""
        return not self.processes()


class Node(Process):
    """A process of ``dask worker``, and what it has started."""

    #: Whether Dask's nanny has started it.
    nanny = False

    def joined(self) -> bool:
        """Whether the scheduler knows it."""
        return self.check() and _JOINED in self.said

    @property
    def agent(self) -> int:
        """The process with Dask's worker in it: with a nanny, that is its child."""
        if not self.nanny:
            return self.popen.pid
        children = psutil.Process(self.popen.pid).children()
        (pid,) = [each.pid for each in children if not _is_tracker(each)]
        return pid

    def workers(self) -> list[psutil.Process]:
        """What runs there for hybridexec: workers and fork servers.

        Python's resource tracker, one for a process, stays as long as that.
        """
        own = {self.popen.pid}
        if self.nanny and self.popen.poll() is None:
            own.add(self.agent)
        return [each for each in self.processes() if each.pid not in own and not _is_tracker(each)]

    def wait_until_free(self, patience: float = processes.PATIENCE) -> None:
        """Wait until nothing runs there for hybridexec."""
        deadline = time.monotonic() + patience
        while left := self.workers():
            if time.monotonic() > deadline:
                raise AssertionError(f"left on {self.name}: {[*map(processes.name, left)]}")
            time.sleep(0.02)


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True  # it has just ended


class Dask:
    """A cluster on this machine."""

    def __init__(
        self, folder: Path, nodes: int = 0, *, tls: bool = False, hosts: Sequence[str] = ()
    ) -> None:
        """Start the scheduler, and that many nodes.

        Args:
            hosts: the addresses that certificates are for, if not only the loopback's.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.mark = uuid.uuid4().hex
        self.scheduler_file = folder / "scheduler.json"
        self.certificates = Certificates(folder / "tls", *hosts) if tls else None
        self.security = self.certificates.security if self.certificates else None
        self.nodes: list[Node] = []
        self._numbers = itertools.count()
        self._started: list[Process] = []
        try:
            self.scheduler = self._scheduler(hosts[0] if hosts else HOST, 0)
            for _ in range(nodes):
                self.start_node()
            self.wait()
        except BaseException:
            self.close()
            raise

    def _command(self, kind: str, *arguments: object) -> list[str]:
        tls = self.certificates.arguments if self.certificates else []
        options = ["--scheduler-file", self.scheduler_file, "--no-dashboard", *arguments, *tls]
        return [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, options)]

    def _environment(self) -> dict[str, str]:
        # The settings of whoever runs the tests are for other clusters.
        return {**processes.inherited_environment(), "DASK_CONFIG": str(self.folder / "settings")}

    def restart_scheduler(self) -> None:
        """Start another at the address of the last one, which has ended."""
        host, _, port = self.address.rpartition("/")[2].rpartition(":")
        self.scheduler_file.unlink()
        self.scheduler = self._scheduler(host, int(port))

    def _scheduler(self, host: str, port: int) -> Process:
        command = self._command("scheduler", "--host", host, "--port", port)
        scheduler = Process(self, "scheduler", command, self._environment())
        self._started.append(scheduler)
        return scheduler

    @property
    def address(self) -> str:
        """The scheduler's."""
        return str(json.loads(self.scheduler_file.read_text())["address"])

    def start_node(
        self,
        *,
        threads: int = 1,
        nanny: bool = False,
        path: Sequence[Path] = (TESTS,),
        host: str = HOST,
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> Node:
        """Start another node; it joins later, see :meth:`wait`.

        Args:
            threads: as many CPUs it says it has.
            path: where it finds modules that are not installed; by default, those of the tests.
            host: the address that others reach it at.
            prefix: what runs its command.
            environment: what else is in its environment.
        """
        name = f"node-{next(self._numbers)}"
        arguments: list[object] = ["--nthreads", threads, "--name", name, "--host", host]
        arguments += ["--nanny" if nanny else "--no-nanny", "--memory-limit", 0]
        arguments += ["--local-directory", self.folder / name]
        own = {**self._environment(), "PYTHONPATH": os.pathsep.join(map(str, path))}
        command = [*prefix, *self._command("worker", *arguments)]
        node = Node(self, name, command, {**own, **(environment or {})})
        node.nanny = nanny
        self.nodes.append(node)
        self._started.append(node)
        return node

    def wait(self) -> None:
        """Wait until the scheduler is there, and the nodes that were started have joined."""
        file = self.scheduler_file
        wait_until(lambda: self.scheduler.check() and file.exists(), "the scheduler is there")
        for node in self.nodes:
            if node.popen.poll() is None:
                wait_until(node.joined, f"{node.name} joins")

    def close(self) -> None:
        """End everything, the nodes first; whatever is left of it fails the test."""
        # A node that loses its scheduler while it ends may hang.
        for process in reversed(self._started):
            process.end()
        left: list[psutil.Process] = []
        for process in self._started:
            with contextlib.suppress(AssertionError):
                wait_until(process.gone, patience=_END_SECONDS)
            left += process.processes()
        names = [*map(processes.name, left)]
        processes.send(left, signal.SIGKILL)
        assert not names, f"left behind: {names}"
