"""The links to workers: carries out the pool's actions, and reports events to it.

Thread: turn holder: the I/O thread, or for an inline call the thread that sends or awaits it.
Guarantees: never waits for a worker, except for the exit status of one that has ended.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ... import native
from ...process import Process
from ...wire import frames, messages
from ...wire.messages import Items, Results, ToWorker
from ...wire.shared import Part
from ..launch import exit_errors
from ..pool.actions import Action, Kill, Send, Start
from ..pool.pool import Phase, Pool
from ..pool.watchdog import Watchdog
from .entry_queue import EntryQueue
from .hub_monitor import HubMonitor
from .leader import Leader
from .link import Launcher, Link, Node
from .stacks import Stacks
from .starter import Starter
from .worker_logs import WorkerLogs

#: How many of the calls that a dead worker was running its errors name.
_MAX_NAMED = 10
#: How often, in seconds, a link whose end has begun is asked whether it has ended.
_END_SECONDS = 0.001
#: How often, in seconds, the workers' memory is measured, if there is a limit.
_MEASURE_SECONDS = 0.5


class Supervisor:
    """The links to one pool's workers."""

    def __init__(
        self,
        pool: Pool,
        launcher: Launcher,
        queue: EntryQueue,
        watchdog: Watchdog | None = None,
        logs: WorkerLogs | None = None,
    ) -> None:
        """
        Args:
            queue: the I/O thread's.
            watchdog: decides which blocked hubs are reported; None reports none.
            logs: takes workers' log records; None if they send none.
        """
        self._pool = pool
        self._tally = pool.actions.tally
        self._launcher = launcher
        self._starter = Starter(launcher, queue, self._started, self._not_started)
        #: See :class:`.starter.Starter`.
        self.start_left = self._starter.start_left
        self.connections: dict[int, Link] = {}
        #: Who reads the results.
        self.leader = Leader(self.connections)
        self._by_fd: dict[int, tuple[Link, int]] = {}
        self._monitor = HubMonitor(watchdog, pool.workers, self.connections, self.send, self._tally)
        #: Asks where calls are.
        self.stacks = Stacks(pool.workers, self.connections, self.send, queue.post)
        self._logs = logs
        self._measure_at = 0.0  # when to measure the workers' memory
        # Workers that have ended, how is not known yet: until when to wait for that.
        self._ends: dict[int, float] = {}
        self._breakage_told = False
        #: The bytes sent to workers that are gone, and received from them.
        self.moved = (0, 0)
        # Handlers of all messages but Results and Items: called with the worker's number, the time
        # and the fields.
        self._handlers: dict[int, Callable[..., None]] = {
            messages.Hello.kind: pool.ready,
            messages.Failed.kind: self._failed,
            messages.LowWatermark.kind: pool.low_watermark,
            messages.Recalled.kind: self._recalled,
            messages.Here.kind: self._monitor.answered,
            messages.Stacks.kind: self.stacks.answered,
            messages.Logged.kind: self._take_logs,
        }

    def open(self, poller: native.Poller) -> None:
        """Use ``poller``, which the I/O thread waits with."""
        self._poller = poller
        self.leader.open(poller)

    @property
    def empty(self) -> bool:
        """Whether there is no process, and none is being started."""
        return not self._starter.under_way and not self.connections

    def act(self) -> None:
        """Carry out the actions that the pool has decided on."""
        actions = iter(self._pool.actions.take())
        written: set[Link] = set()
        try:
            self._act(actions, written)
        except BaseException as error:
            # Ctrl-C, where a caller forks workers. The pool expects an answer for each start.
            for action in actions:
                if type(action) is Start:
                    self._starter.fail(action.worker, error)
            raise
        finally:
            for connection in written:
                connection.flush()

    def _act(self, actions: Iterator[Action], written: set[Link]) -> None:
        for action in actions:
            if type(action) is Send:
                connection = self.connections.get(action.worker)
                # A frame for a worker that has just ended is dropped: its calls were returned.
                if connection is not None:
                    connection.write(action.message, action.segments)
                    # All frames of a turn for a worker are written in one system call.
                    written.add(connection)
            elif type(action) is Start:
                self._starter.start(action.worker, action.lane)
            elif type(action) is Kill and action.worker in self.connections:
                self.connections[action.worker].kill(action.signal)
            elif action.worker in self._pool.workers:
                # Its process does not exist yet, and may never.
                self._launcher.give_up(self._pool.workers[action.worker].crew.lane)

    def send(self, worker: int, message: ToWorker) -> None:
        """Send a message to a worker, at once."""
        connection = self.connections.get(worker)
        if connection is not None:
            connection.write(message)
            connection.flush()

    def look_seconds(self, now: float) -> float | None:
        """Seconds until :meth:`look` is due; None if only events matter."""
        seconds = self._monitor.seconds(now)
        if self._ends:
            seconds = _END_SECONDS if seconds is None else min(seconds, _END_SECONDS)
        if self._pool.memory is None or not self._pool.ledger.unfinished:
            return seconds
        measure = max(0.0, self._measure_at - now)
        return measure if seconds is None else min(seconds, measure)

    def look(self, now: float) -> None:
        """Check what no event reports, where that is due."""
        for number, due in list(self._ends.items()):
            connection = self.connections[number]
            if now >= due or not connection.ended():
                self._lose(number, connection)
        if self._pool.memory is not None and now >= self._measure_at:
            self._measure_at = now + _MEASURE_SECONDS
            for number, connection in self.connections.items():
                resident = connection.resident
                if resident is not None:
                    self._pool.measured(number, resident)
        tree = None if self._logs is None else self._logs.look(now)
        if tree is not None:
            for number in self.connections:
                self.send(number, messages.Follow(tree))
        self._monitor.look(now)

    @property
    def logs_dropped(self) -> int:
        """How many log records of workers were dropped."""
        return 0 if self._logs is None else self._logs.dropped

    def nodes(self) -> Sequence[Node]:
        """Those of the launcher; callable on any thread."""
        return self._launcher.nodes()

    def current(self, number: int) -> str | None:
        """The call that has a worker's CPU, in a few words, if it is known; callable on any
        thread."""
        return self._monitor.current(number)

    def handle(self, fd: int) -> None:
        """A descriptor is ready."""
        connection, number = self._by_fd.get(fd, (None, 0))
        if connection is None:
            return
        if fd == connection.calls_fd:
            connection.flush(there_is_room=True)
        elif fd in connection.ends:
            self._hear_of_end(number, connection, fd)
        elif number != self.leader.worker:
            self.receive(number, connection)

    # -- starts -----------------------------------------------------------------------------------

    def _started(self, number: int, started: Any) -> None:
        connection = self.connections[number] = self._launcher.connect(started, self._poller)
        self._by_fd[connection.calls_fd] = (connection, number)
        for fd in (connection.results_fd, *connection.ends):
            self._by_fd[fd] = (connection, number)
            self._poller.register(fd, native.Poller.READABLE)
        if self._logs is not None and self._logs.changed is not None:
            connection.write(messages.Follow(self._logs.changed))
        process = Process(connection.pid, connection.node)
        self._pool.started(number, process, connection.page)

    def _not_started(self, number: int, error: BaseException) -> None:
        broken = exit_errors.not_started(error, self._launcher.executable)
        if not isinstance(error, OSError):  # a lack of memory, say, may be over soon
            self._pool.unready(number, broken)
        self._pool.lost(number, broken, native.monotonic())
        if self._pool.phase is Phase.RUNNING:
            self._tally.happen("WorkerStartFailed", number, Process(None), str(broken))
        self._tell_of_breakage()

    # -- results and ends -------------------------------------------------------------------------

    def receive(self, number: int, connection: Link, everything: bool = False) -> None:
        """Read what a worker has written and tell the pool; see :meth:`Link.read`."""
        pool = self._pool
        now = native.monotonic()
        for head, segments in connection.read(everything):
            if head[0] == Results.kind:  # the most
                _, results, rows = head
                if segments:
                    results = [_resolve(result, segments) for result in results]
                pool.results(number, results, rows, now)
            elif head[0] == Items.kind:  # the only others with segments
                for call, packed, values in head[1]:
                    if packed:
                        values = [frames.extract(value, segments) for value in values]
                    pool.yielded(number, call, packed, values)
            else:
                self._handlers[head[0]](number, now, *head[1:])
        if connection.broken:
            self._poller.unregister(connection.results_fd)

    def _recalled(self, number: int, now: float, calls: list[int]) -> None:
        self._pool.recalled(number, calls)

    def _take_logs(self, number: int, now: float, end: int | None) -> None:
        if self._logs is not None:
            connection = self.connections[number]
            self._logs.receive(number, *connection.take_logs(end), connection.node)

    def _failed(self, number: int, now: float, stage: str, text: str) -> None:
        # The process is ending, and its log is complete only when it has.
        connection = self.connections[number]
        connection.failed_stage = stage
        connection.failure = exit_errors.failed(
            Process(connection.pid, connection.node), stage, text
        )

    def _hear_of_end(self, number: int, connection: Link, fd: int) -> None:
        """A link has ended, or is about to."""
        patience = connection.ended()
        if not patience:
            self._lose(number, connection)
            return
        self._poller.unregister(fd)
        self._ends[number] = native.monotonic() + patience

    def _lose(self, number: int, connection: Link) -> None:
        """A link has ended, and the worker with it."""
        self._ends.pop(number, None)
        connection.finish()
        self.receive(number, connection, everything=True)
        self._take_logs(number, 0.0, None)
        for fd in (connection.results_fd, connection.calls_fd, *connection.ends):
            self._poller.unregister(fd)
            del self._by_fd[fd]
        sent, received = self.moved
        self.moved = sent + connection.bytes_sent, received + connection.bytes_received
        del self.connections[number]
        self._monitor.forget(number)
        self.leader.lose(number)
        worker = self._pool.workers[number]
        lost: BaseException
        if connection.failure is not None:
            lost = connection.failure
            if connection.failed_stage in ("initializer", "worker_state"):
                self._pool.incapable(number, lost)
            else:
                self._pool.unready(number, lost)
        elif not worker.taken and self._pool.phase is not Phase.KILLED:
            lost = connection.never_ready(self._launcher.executable)
        else:
            running = worker.running
            named = worker.in_flight.calls()[: min(running, _MAX_NAMED)]
            calls = tuple(batch.text(call - batch.first) for call, batch in named)
            lost = connection.lost(running, calls, self._pool.phase is Phase.RUNNING)
        self._pool.lost(number, lost, native.monotonic())
        connection.close()
        self._tell_of_breakage()

    def _tell_of_breakage(self) -> None:
        """Tell once that no call can run any more: errors in futures may be seen late, or never."""
        broken: BaseException | None = self._pool.ledger.broken_because
        if broken is not None and not self._breakage_told:
            self._breakage_told = True
            self._tally.happen("ExecutorBroke", str(broken))

    def close(self) -> None:
        """Kill the processes that a fault has left, and close the launcher."""
        while self.connections:
            _, connection = self.connections.popitem()
            connection.kill(signal.SIGKILL)
            connection.close()
        self._launcher.close()


def _resolve(result: tuple[Any, ...], segments: Sequence[Part]) -> tuple[Any, ...]:
    call, status, value, seconds = result
    if status == messages.PICKLED:
        value = frames.extract(value, segments)
    elif status in (messages.ERROR, messages.RETRIABLE):
        value = (frames.extract(value[0], segments), *value[1:])
    return call, status, value, seconds
