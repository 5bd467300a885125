"""The I/O around the watchdog: reads heartbeats, asks workers, and reports what is found.

Thread: turn holder; :meth:`HubMonitor.current` on any thread.
Guarantees: reads shared memory and writes messages, so no worker can keep it waiting; while no call
is unfinished and no hub is reported as blocked, it needs no look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...wire import messages
from ...wire.messages import ToWorker
from ..pool.in_flight import InFlight
from ..pool.tally import Tally
from ..pool.watchdog import Ask, Discard, Dump, Over, Report, Watchdog
from ..pool.worker import Worker
from .holdups import HeldUp, Holdups
from .link import Link

#: How many calls a report names at most, of those that a silent worker runs.
_MAX_NAMED = 5
#: Why a worker that does not answer has no stack to show, by the state of its main thread.
WHY_NO_STACK = {
    "S": "it waits in C code that holds the GIL",
    "D": "it waits in the system",
    "T": "the process is stopped",
    "t": "a debugger has stopped the process",
}


class HubMonitor:
    """Monitors the hubs of all workers."""

    def __init__(
        self,
        watchdog: Watchdog | None,
        workers: Mapping[int, Worker],
        connections: Mapping[int, Link],
        send: Callable[[int, ToWorker], None],
        tally: Tally,
    ) -> None:
        """
        Args:
            watchdog: decides what to report; None if nothing is.
            send: sends a message to the worker with this number.
            tally: the pool's, which is told what is found.
        """
        self._watchdog = watchdog
        self._workers = workers
        self._connections = connections
        self._send = send
        self._tally = tally
        self._look_at = 0.0
        self._holdups = Holdups()
        # Which of the modules that it was asked for each worker had when it was asked last.
        self._loaded: dict[int, list[str]] = {}

    def seconds(self, now: float) -> float | None:
        """Seconds until :meth:`look` is due; None if only events matter."""
        watchdog = self._watchdog
        if watchdog is None:
            return None
        if not watchdog.following and not any(map(_may_keep, self._workers.values())):
            return None
        return max(0.0, self._look_at - now)

    def look(self, now: float) -> None:
        """Check the hubs if that is due."""
        if self._watchdog is None or now < self._look_at:
            return
        for number in self._holdups.look(now, self._asleep()):
            self._ask(number)
        following = self._watchdog.following
        beats = {
            number: worker.page.heartbeat
            for number, worker in self._workers.items()
            if number in self._connections
            and (_may_keep(worker) or number in following)
            and worker.page.heartbeat
        }
        for step in self._watchdog.look(now, beats):
            connection = self._connections[step.worker]
            if type(step) is Ask:
                self._ask(step.worker)
            elif type(step) is Dump:
                connection.request_dump()
            elif type(step) is Discard:
                connection.take_dump()
            elif type(step) is Report:
                self._report(step, connection)
            elif type(step) is Over:
                self._tally.happen(
                    "WorkerUnblocked", step.worker, self._workers[step.worker].process, step.seconds
                )
        self._look_at = now + self._watchdog.period

    def _report(self, report: Report, connection: Link) -> None:
        worker = self._workers[report.worker]
        held = worker.in_flight
        call, name, stack = report.call, "", report.stack
        if stack is None:
            call = worker.page.current
            stack = connection.take_dump()
        if call in held:
            name = _text(held, call)
            why = f"{name} keeps it from running any other"
        elif report.stack is None:
            why = f"it runs {self._running(worker)}"
        else:
            why = "no call has the CPU, but code that one has left running"
        state = connection.state or ""
        no_stack = "" if stack else WHY_NO_STACK.get(state, "it does not answer")
        # What computes does not wait for a library.
        libraries = self._libraries(worker.id) if state in ("S", "D") else ()
        found = report.seconds, name, stack, why, no_stack, len(held), libraries, worker.crew.lane
        self._tally.happen("WorkerBlocked", worker.id, worker.process, *found)

    def _held_up(self, found: HeldUp) -> None:
        worker = self._workers[found.worker]
        sent, stack = worker.in_flight, found.stack.rstrip()
        call = _text(sent, found.call) if found.call in sent else "a call that has ended"
        libraries, lane = self._libraries(worker.id), worker.crew.lane
        told = found.seconds, found.held, call, stack, len(sent), libraries, lane
        self._tally.happen("WorkerHeldUp", worker.id, worker.process, *told)

    def _ask(self, worker: int) -> None:
        """Ask a worker what its main thread is doing."""
        from ...drivers import SIGNS  # not before the first result

        self._send(worker, messages.Where(SIGNS))

    def _libraries(self, worker: int) -> tuple[str, ...]:
        """The libraries that a worker has loaded and that wait in C."""
        from ... import drivers

        return tuple(drivers.harmful(self._loaded.get(worker, ())))

    def _asleep(self) -> Iterator[int]:
        """Workers with several calls whose main thread waits, in the hub or elsewhere."""
        for number, connection in self._connections.items():
            worker = self._workers[number]
            several = worker.in_flight.count > 1 and worker.crew.slots > 1
            if several and (connection.state or "") in "SD":
                yield number

    def _running(self, worker: Worker) -> str:
        """The calls that a worker runs, the latest first, in words: one of them has the CPU."""
        held, running = worker.in_flight, worker.page.running()
        latest = sorted((call for call in running if call in held), key=running.__getitem__)[::-1]
        named = ", ".join(_text(held, call) for call in latest[:_MAX_NAMED])
        more = len(latest) - _MAX_NAMED
        return f"{named} and {more} more" if more > 0 else named or "no call"

    def answered(self, number: int, now: float, call: int, stack: str, loaded: list[str]) -> None:
        """A worker has said what its main thread is doing."""
        if self._watchdog is None:
            return
        self._loaded[number] = loaded
        held_up = self._holdups.answered(number, now, call, stack)
        if held_up is not None:
            self._held_up(held_up)
        if number in self._watchdog.following:
            self._watchdog.answered(number, call, stack)
            self._look_at = 0.0

    def current(self, number: int) -> str | None:
        """The call that has a worker's CPU, in a few words, if it is known."""
        worker = self._workers.get(number)
        if worker is None:
            return None
        call = worker.page.current
        if not call and self._watchdog is not None:
            call = self._watchdog.blocker(number)
        # This may be any thread, and the call may be ending.
        return _text(worker.in_flight, call) if call in worker.in_flight else None

    def forget(self, number: int) -> None:
        """A worker is gone."""
        if self._watchdog is not None:
            self._watchdog.forget(number)
            self._holdups.forget(number)
            self._loaded.pop(number, None)


def _may_keep(worker: Worker) -> bool:
    """Whether a call of this worker may keep another from running."""
    return worker.in_flight.count > 0 and worker.crew.slots > 1


def _text(held: InFlight, call: int) -> str:
    """A call in flight, in a few words."""
    batch = held.get(call)
    return "..." if batch is None else batch.text(call - batch.first)
