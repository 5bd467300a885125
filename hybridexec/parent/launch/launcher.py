"""Start a worker process by any of multiprocessing's start methods.

Thread: where :mod:`.starter` runs it: mostly a short-lived thread per start.
Guarantees: a worker that is to be patched is so before it imports the user's ``__main__`` (except
with ``fork``, where ``__main__`` was imported before the fork); a start that fails leaves nothing
behind; no executor waits for another's fork server; each lane has a fork server of its own, and one
that has ended is replaced, a bounded number of times.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from typing import Any, Generic, NamedTuple, TypeVar

from ... import native
from ...wire import log_tree
from ...wire.contract import Boot, BootName, InheritedFd, Setup, Setups, WorkerStart
from ...wire.page import StatusPage, create_fd
from ...wire.shared import Channel, open_channel
from .. import lifecycle
from ..work import session
from . import interpreter
from .beginning import Beginning
from .fork_server import ForkServer, ServerEnded
from .memory import map_memory
from .process import ServerProcess, daemons_may, watch_by_pidfd

_WORKER_NAME = "HybridWorker-"
#: Bytes that a pipe holds. The system's quota allows a user a few hundred of that size.
_PIPE_SIZE = 256 * 1024
#: The resource tracker's niceness: processes that the first result waits for get three times its
#: share of the CPU, but it still ends promptly after the program, even on a busy machine.
_NICE = 5
#: How many fork servers in a row may end without having started a worker.
_MAX_ENDED_SERVERS = 3
#: The engine's link to a worker.
LinkT = TypeVar("LinkT")


class Started(NamedTuple):
    """A process that was started, and the parent's ends of what connects to it."""

    process: Any
    calls_fd: int
    bell_fd: int
    results_fd: int
    page: StatusPage
    #: Whether the process's sentinel becomes readable only when there is an exit status to be had.
    exact: bool
    channel: Channel
    #: Whatever else :func:`_open_safe_pipe` has opened here.
    other_fds: Sequence[int]


# Held to use multiprocessing, which one thread at a time may do: in a gevent-patched process its
# own locks are gevent's, on which native threads hang. The holder waits for no other process,
# except for a spawned one to read its preparation data.
_one_start = native.original("_thread", "allocate_lock")()


def _after_fork_in_child() -> None:
    global _one_start
    _one_start = native.original("_thread", "allocate_lock")()  # it may have been held


os.register_at_fork(after_in_child=_after_fork_in_child)


def _open_safe_pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> list[int]:
    """A pipe to a worker: its end, ours, and what else has to stay open here.

    Our end reads as well, which nobody does, so that a write to a worker that has just died raises
    no SIGPIPE, which kills a process that does not ignore it. Where one descriptor cannot do both,
    because there is no /proc, a second one reads.
    """
    read, write = os.pipe()
    theirs.callback(native.close, read)
    lifecycle.keep(write, ours)
    try:
        both = os.open(f"/proc/self/fd/{write}", os.O_RDWR)
    except OSError:
        other = os.dup(read)
        lifecycle.keep(other, ours)
        return [read, write, other]
    os.dup2(both, write, inheritable=False)
    native.close(both)
    return [read, write]


def _widen(pipe: int) -> None:
    """Let a pipe hold the largest payload that does not go into shared memory, if the system allows
    that."""
    with contextlib.suppress(AttributeError, OSError):  # it is Linux's own; a quota is used up
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


def _ensure_tracker() -> None:
    """Start multiprocessing's resource tracker, at low priority, unless it runs.

    Workers inherit its pipe. Nothing waits for what the tracker does; but on one CPU, or a busy
    machine, its start would compete with the first result.
    """
    tracker: Any = resource_tracker._resource_tracker
    before = tracker._pid
    resource_tracker.ensure_running()
    if tracker._pid != before:
        with contextlib.suppress(OSError):  # it may not be allowed
            nice = max(_NICE, os.getpriority(os.PRIO_PROCESS, tracker._pid))
            os.setpriority(os.PRIO_PROCESS, tracker._pid, nice)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block SIGINT, so that Ctrl-C does not reach a process that this thread starts, and that
    inherits the mask, before it can ignore it; and SIGPIPE, so that writing to a closed pipe or
    socket raises an error, even in a program that does not ignore that signal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            with contextlib.suppress(AttributeError):  # the system has no such function
                signal.sigtimedwait({signal.SIGPIPE}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def setups(beginning: Beginning) -> Setups:
    """What workers are set up with, to be pickled when one is started."""
    dumps, state = session.dumps_flat, beginning.worker_state
    return Setups(
        Setup(beginning.initializer, beginning.initargs, dumps),
        Setup(beginning.loop_factory, (), dumps),
        None if state is None else Setup(state, (), dumps),
    )


class _Lane:
    """How workers of one lane are started."""

    def __init__(self, boot: Boot, slots: int) -> None:
        self.boot = boot
        self.slots = slots
        self.server: ForkServer | None = None
        self.given_up = False
        #: How many servers in a row ended before they had started a worker.
        self.ended_servers = 0


class Launcher(Generic[LinkT]):
    """Starts the workers of one executor."""

    def __init__(
        self,
        method: str,
        boot: Boot,
        slots: Mapping[str, int],
        beginning: Beginning | Setups,
        main_file: str | None,
        connect: Callable[[Started, native.Poller], LinkT],
        server: ForkServer | None = None,
        logging: Callable[[], log_tree.Tree] | None = None,
        place_of: Callable[[int], int] = lambda number: 0,
    ) -> None:
        """
        Args:
            boot: what a process of the lane for which there may be a server by now needs to know;
                those of other lanes differ by that only.
            slots: how many calls a worker runs at once, by lane.
            beginning: what workers are set up with; pickled already, if another process did that.
            main_file: the script's path, if there is one.
            connect: makes the engine's link to what was started, in the engine.
            server: the fork server of that lane, if it was launched already.
            logging: describes the logging of who gets the workers' log records, if they are to send
                them.
            place_of: tells which of the workers' places a worker has, by its number.
        """
        self.method = method
        self.connect = connect
        #: The interpreter that was run to start a worker; empty where workers are forked.
        self.executable = ""
        self._lanes = {
            lane: _Lane(boot._replace(lane=lane), count) for lane, count in slots.items()
        }
        self._lanes[boot.lane].server = server
        self._beginning = beginning
        self._setups = beginning if isinstance(beginning, Setups) else setups(beginning)
        self._main_file = main_file
        self._logging = logging
        self.worker_logs = logging is not None
        self._place_of = place_of
        # Both ends of a pipe whose end kills all workers, when this process has ended; see
        # hybridexec.worker.lifeline.
        self._lifeline: tuple[int, int] | None = None

    def start(self, number: int, lane: str, pressed: Callable[[], bool] | None = None) -> Started:
        """Start worker ``number``; returns when its process exists, not when it is ready.

        Args:
            lane: of which kind it is.
            pressed: see :meth:`.process.ServerProcess.begin`.

        Raises:
            StartPostponed: see there.
            Exception: the worker cannot be started, because initargs cannot be pickled, say.
        """
        kind = self._lanes[lane]
        while True:
            try:
                return self._start(number, kind, pressed)
            except ServerEnded as ended:
                if not self._may_replace(kind, ended.server):
                    raise

    def give_up(self, lane: str) -> None:
        """Have starts under way in this lane fail instead of waiting for the server: they are not
        wanted any more."""
        kind = self._lanes[lane]
        kind.given_up = True  # first: a server may be about to be launched
        server = kind.server
        if server is not None:
            server.dismiss()

    def _start(self, number: int, lane: _Lane, pressed: Callable[[], bool] | None) -> Started:
        native.open_standard_descriptors()
        # The worker's ends are closed here in any case; ours are closed if the start fails.
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            calls_read, calls_write, *other_fds = _open_safe_pipe(ours, theirs)
            bell_read, bell_write, *more_fds = _open_safe_pipe(ours, theirs)
            results_read, results_write = os.pipe()
            theirs.callback(native.close, results_write)
            lifecycle.keep(results_read, ours)
            for fd in (calls_write, bell_write, results_read):
                os.set_blocking(fd, False)
            for fd in (calls_write, results_read):
                _widen(fd)
            status_fd = create_fd(lane.slots, self.worker_logs)
            theirs.callback(native.close, status_fd)
            page = StatusPage(status_fd, lane.slots, map_memory, with_ring=self.worker_logs)
            ours.callback(page.close)
            channel, channel_other = open_channel()
            theirs.callback(native.close, channel_other)
            ours.callback(channel.close)
            with _one_start:
                lifeline_fd = self._lifeline_end()
            theirs.callback(native.close, lifeline_fd)
            if self.method == "fork":
                for setup in self._setups:
                    if isinstance(setup, Setup):
                        setup.needs = session.needs(setup.initializer)
            results = InheritedFd(results_write)
            lifeline = InheritedFd(lifeline_fd)
            start = WorkerStart(
                boot=lane.boot,
                calls=InheritedFd(calls_read),
                bell=InheritedFd(bell_read),
                results=results,
                status=InheritedFd(status_fd),
                channel=InheritedFd(channel_other),
                lifeline=lifeline,
                place=self._place_of(number),
                concurrency=lane.slots,
                open_files=os.sysconf("SC_OPEN_MAX"),
                setups=self._setups,
                log_tree=None if self._logging is None else self._logging(),
            )
            path = interpreter.search_path()
            name = BootName(f"{_WORKER_NAME}{number}", lane.boot, results, lifeline, path)
            process = self._started_process(start, name, lane, pressed)
            exact = isinstance(process, ServerProcess) or watch_by_pidfd(process)
            ours.pop_all()
        return Started(
            process=process,
            calls_fd=calls_write,
            bell_fd=bell_write,
            results_fd=results_read,
            page=page,
            exact=exact,
            channel=channel,
            other_fds=[*other_fds, *more_fds],
        )

    def _lifeline_end(self) -> int:
        """A copy of the lifeline's read end, for a process to inherit."""
        if self._lifeline is None:
            self._lifeline = os.pipe()
            lifecycle.keep_from_children(*self._lifeline)
        return os.dup(self._lifeline[0])

    def _process(self, start: WorkerStart, name: BootName, lane: _Lane) -> Any:
        if self.method != "forkserver":
            boot_name = name if self.method == "spawn" else str(name)
            chosen: Any = multiprocessing.get_context(self.method)
            return chosen.Process(target=start, name=boot_name)
        if lane.server is None or lane.server.foreign:
            lane.server = ForkServer(*lane.boot)
            if lane.given_up:
                lane.server.dismiss()
        return ServerProcess(lane.server, name, target=start)

    def _may_replace(self, lane: _Lane, ended: ForkServer) -> bool:
        """Whether to try again with a new server, since this one has ended."""
        if ended.dismissed:
            return False
        with _one_start:
            if lane.server is ended:
                lane.server = None
                lane.ended_servers = 0 if ended.answered else lane.ended_servers + 1
                ended.close()
            return lane.ended_servers < _MAX_ENDED_SERVERS

    def _started_process(
        self,
        start: WorkerStart,
        name: BootName,
        lane: _Lane,
        pressed: Callable[[], bool] | None,
    ) -> Any:
        """Start a process that is told the script's path, even after the script's last line has
        run: Python forgets the path then, while calls that it waits for at exit may still need new
        workers."""
        main: Any = sys.modules.get("__main__")
        forks = self.method == "fork"
        if not forks:
            interpreter.refuse_frozen(self.method)
            executable = interpreter.path()
            if self.method == "spawn":
                self.executable = executable
            with _one_start, _signals_blocked():
                _ensure_tracker()  # before the mask below, which its start would undo
        with _signals_blocked():
            while True:
                own_server = self.method == "forkserver"
                with _one_start, daemons_may() if own_server else contextlib.nullcontext():
                    if self._main_file is not None and not hasattr(main, "__file__"):
                        main.__file__ = self._main_file
                    process = self._process(start, name, lane)
                    with contextlib.nullcontext() if forks else interpreter.prepared():
                        process.start()
                    complete = self._main_file is None or hasattr(main, "__file__")
                if isinstance(process, ServerProcess):
                    if complete:
                        process.begin(pressed)
                    else:
                        process.abandon()
                if complete:
                    return process
                # Python forgot the path meanwhile, so the process may not have been told.
                if not isinstance(process, ServerProcess):
                    process.kill()
                    process.join()
                    process.close()

    def nodes(self) -> tuple[()]:
        """There are none: workers are started on this machine."""
        return ()

    def become_inert(self) -> None:
        """Forget the workers: this process is a fork, and they are its parent's."""
        # multiprocessing would try to join them when this process exits, and fail.
        children: set[Any] = multiprocessing.process._children  # type: ignore[attr-defined]  # private
        children.difference_update(
            [child for child in children if child.name.startswith(_WORKER_NAME)]
        )

    def close(self) -> None:
        """End the fork server and drop what workers were to be given; all workers have ended."""
        if isinstance(self._beginning, Beginning):
            self._beginning.let_go()
        self._setups = setups(Beginning(None, ()))
        for lane in self._lanes.values():
            if lane.server is not None:
                lane.server.close()
                lane.server = None
        if self._lifeline is not None:
            lifecycle.close(*self._lifeline)
            self._lifeline = None
