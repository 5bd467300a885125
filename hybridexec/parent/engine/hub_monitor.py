"""The I/O around the watchdog: reads heartbeats, asks workers, and words the reports, also those on
cancelled calls that do not end.

Thread: turn holder; :meth:`HubMonitor.current` on any thread.
Guarantees: reads shared memory and writes messages, so no worker can keep it waiting; while no call
is unfinished and no hub is reported as blocked, it needs no look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ...wire import messages
from ...wire.messages import ToWorker
from ..pool.actions import Abandoned
from ..pool.in_flight import InFlight
from ..pool.tally import Tally
from ..pool.watchdog import Ask, Discard, Dump, Over, Report, Watchdog
from ..pool.worker import Worker
from .holdups import HeldUp, Holdups
from .link import Link

#: How many calls a report names at most, of those that a silent worker runs or that do not end.
_MAX_NAMED = 5
#: Why a worker that does not answer has no stack to show, by the state of its main thread.
_WHY_NO_STACK = {
    "S": "it waits in C code that holds the GIL",
    "D": "it waits in the system",
    "T": "the process is stopped",
    "t": "a debugger has stopped the process",
}


_HELD_UP = """the calls of worker process %s wait one after another: in %d of the looks taken in \
the last %.0f s, one was waiting where gevent cannot let others run, %s for one; unfinished calls \
there: %d. psycopg2 needs psycogreen, grpc its init_gevent(), other clients a driver that waits in \
Python, or gevent.get_hub().threadpool.apply(): see "Code that does not wait cooperatively" in the \
documentation. Its stack:
%s"""


class Record(NamedTuple):
    """A log record to write."""

    level: int
    message: str
    arguments: tuple[Any, ...]


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
            tally: the pool's, which may have somebody to tell.
        """
        self._watchdog = watchdog
        self._workers = workers
        self._connections = connections
        self._send = send
        self._tally = tally
        self._look_at = 0.0
        self._holdups = Holdups()
        self._found: list[Record] = []  # since the last look

    def seconds(self, now: float) -> float | None:
        """Seconds until :meth:`look` is due; None if only events matter."""
        watchdog = self._watchdog
        if watchdog is None:
            return None
        if not watchdog.following and not any(w.in_flight for w in self._workers.values()):
            return None
        return max(0.0, self._look_at - now)

    def look(self, now: float) -> list[Record]:
        """Check the hubs if that is due; returns what to log."""
        if self._watchdog is None or now < self._look_at:
            return []
        records, self._found = self._found, []
        for number in self._holdups.look(now, self._asleep()):
            self._send(number, messages.Where())
        following = self._watchdog.following
        beats = {
            number: worker.page.heartbeat
            for number, worker in self._workers.items()
            if number in self._connections
            and (worker.in_flight or number in following)
            and worker.page.heartbeat
        }
        for step in self._watchdog.look(now, beats):
            connection = self._connections[step.worker]
            if type(step) is Ask:
                self._send(step.worker, messages.Where())
            elif type(step) is Dump:
                connection.request_dump()
            elif type(step) is Discard:
                connection.take_dump()
            elif type(step) is Report:
                records.append(self._report(step, connection))
            elif type(step) is Over:
                message = "the hub of worker process %s runs again, after %.1f s"
                records.append(Record(logging.INFO, message, (connection.pid, step.seconds)))
                if (emitter := self._tally.emitter) is not None:
                    emitter.worker_unblocked(self._workers[step.worker], step.seconds)
        self._look_at = now + self._watchdog.period
        return records

    def _report(self, report: Report, connection: Link) -> Record:
        worker = self._workers[report.worker]
        held = worker.in_flight
        call, name, stack, no_stack = report.call, "", report.stack, ""
        if stack is None:
            call = worker.page.current
            stack = connection.take_dump()
            no_stack = _WHY_NO_STACK.get(connection.state or "", "it does not answer")
        if call in held:
            name = _text(held, call)
            what = f"{name} keeps it from running any other"
        elif report.stack is None:
            what = f"it runs {self._running(worker)}"
        else:
            what = "no call has the CPU, but code that one has left running"
        if (emitter := self._tally.emitter) is not None:
            emitter.worker_blocked(worker, report.seconds, name, stack)
        return Record(
            logging.WARNING,
            "the hub of worker process %s has not run for %.1f s: %s; unfinished calls there: %d. "
            "%s",
            (
                connection.pid,
                report.seconds,
                what,
                len(held),
                f"Its stack:\n{stack.rstrip()}" if stack else f"No stack is known: {no_stack}",
            ),
        )

    def _held_up(self, found: HeldUp) -> Record:
        sent = self._workers[found.worker].in_flight
        pid, stack = self._connections[found.worker].pid, found.stack.rstrip()
        what = _text(sent, found.call) if found.call in sent else "a call that has ended"
        arguments = (pid, found.held, found.seconds, what, len(sent), stack)
        return Record(logging.WARNING, _HELD_UP, arguments)

    def _asleep(self) -> Iterator[int]:
        """Workers with several calls whose main thread waits, in the hub or elsewhere."""
        for number, connection in self._connections.items():
            if len(self._workers[number].in_flight) > 1 and (connection.state or "") in "SD":
                yield number

    def _running(self, worker: Worker) -> str:
        """The calls that a worker runs, the latest first, in words: one of them has the CPU."""
        held, running = worker.in_flight, worker.page.running()
        latest = sorted((call for call in running if call in held), key=running.__getitem__)[::-1]
        named = ", ".join(_text(held, call) for call in latest[:_MAX_NAMED])
        more = len(latest) - _MAX_NAMED
        return f"{named} and {more} more" if more > 0 else named or "no call"

    def answered(self, number: int, now: float, call: int, stack: str) -> None:
        """A worker has said what its main thread is doing."""
        if self._watchdog is None:
            return
        held_up = self._holdups.answered(number, now, call, stack)
        if held_up is not None:
            self._found.append(self._held_up(held_up))
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


def abandoned(what: Abandoned) -> Record:
    """The log record on cancelled calls that do not end."""
    named, more = ", ".join(what.names[:_MAX_NAMED]), len(what.names) - _MAX_NAMED
    if more > 0:
        named += f" and {more} more"
    return Record(
        logging.WARNING,
        "worker process %s still runs what was cancelled, and did not end within timeout_grace: "
        "%s. Each keeps its slot until it ends. What stops a call is an exception, which a bare "
        "except or except BaseException swallows, and which C code does not see. With a timeout, "
        "such a call ends all the same",
        (what.pid, named),
    )


def _text(held: InFlight, call: int) -> str:
    """A call in flight, in a few words."""
    batch = held.get(call)
    return "..." if batch is None else batch.text(call - batch.first)
