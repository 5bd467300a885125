"""The hub's side of the worker: long-lived greenlets that take calls from the inbox and run them.

Runs on: the main thread, whose hub switches between the runners. The methods under "from the
inbound pipe's reader" are also called on its native thread; they touch only deques and sets, whose
single operations the GIL makes atomic.
Guarantees: a call's exception, whatever it is, becomes that call's result and reaches nothing
else; calls are taken in the order they were sent; a call that blocks holds its runner only.

A runner about to run a call makes sure that the hub, should it get control before the call is
over, starts or wakes another runner while there is work and room. So calls that never block run
one after another in a single runner, at the price of a loop iteration each, and calls that block
get a runner each.
"""

from __future__ import annotations

import contextvars
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.event
import gevent.lock
import gevent.pool
import greenlet
from gevent import getcurrent

from .. import native
from ..wire import frames, payload
from ..wire.page import CURRENT, HEARTBEAT, HELD, TAKEN, StatusPage, slot_index
from . import failures, tracing
from .interrupts import Interrupts

#: A runner that has run calls for so long without a switch lets the hub see to the others.
_TURN_NS = 5_000_000
#: How often the hub shows that it is alive.
_HEARTBEAT_SECONDS = 0.1

_INLINE_LIMIT = payload.INLINE_LIMIT
_monotonic_ns = time.monotonic_ns

Call = tuple[int, "Job", Any]
#: What leaves the worker: a result ``(id, status, value, seconds)``, or a shorter head of a frame.
Entry = tuple[Any, ...]
Put = Callable[[Entry], None]


class StopCall(gevent.GreenletExit):
    """Raised in a call that was cancelled, at the point where it waits."""


class CallExpired(gevent.GreenletExit):
    """Raised in a call whose time is up, at the point where it waits."""


class Job:
    """What the calls of one span share: their function and how to run it."""

    __slots__ = ("_retry_types", "function", "reference", "timed", "timeout", "traced")

    def __init__(
        self,
        reference: int | payload.Payload,
        timeout: float | None,
        timed: bool,
        traced: bool,
        retry_types: bytes | None,
    ) -> None:
        """
        Args:
            reference: the function's number, or its pickle.
            timeout: seconds after which a call is stopped; None for never.
            timed: whether the result is to tell how long the call took.
            traced: whether the status page must tell when such a call has the CPU.
            retry_types: pickled exception types after which a call may be tried again.
        """
        self.function: Callable[..., Any] | None = None
        self.reference = reference
        self.timeout = timeout
        self.timed = timed
        self.traced = traced
        self._retry_types = retry_types

    def is_retriable(self, error: BaseException) -> bool:
        """Whether the call that raised ``error`` may be tried again."""
        if self._retry_types is None or isinstance(error, StopCall | CallExpired):
            return False
        try:
            return isinstance(error, payload.loads(self._retry_types))
        except BaseException as refusal:
            error.add_note(
                f"It was not tried again: retry_on could not be used in process {os.getpid()}: "
                f"{type(refusal).__name__}: {refusal}"
            )
            return False


class Runners:
    """Runs calls in a gevent pool."""

    def __init__(self, concurrency: int, page: StatusPage, put: Put, put_first: Put) -> None:
        """
        Args:
            concurrency: how many calls may run at once.
            page: where to write what runs.
            put: takes what the parent shall get.
            put_first: the same for the first result in a turn of the hub.
        """
        self._put = put
        self._put_first = put_first
        self._last_turn = 0.0  # the loop's time in the turn that last had a result
        self._words = page.words
        #: The main thread, by the system's name for it; gevent patches the usual ones.
        self.thread: int = native.original("_thread", "get_ident")()
        self._hub = gevent.get_hub()
        self._pool = gevent.pool.Pool(concurrency)
        self._context = contextvars.Context()
        self._inbox: deque[Call] = deque()
        # Invariant: a slot is in _free_slots or owned by one living runner.
        self._free_slots = list(range(concurrency - 1, -1, -1))
        # Runners that wait for a call; the last to park is the first to be woken, so that few
        # stay warm. A dict, because a runner that is killed must be found.
        self._parked: dict[greenlet.greenlet, None] = {}
        #: Who runs which call.
        #: Invariant: a call is in it from before its function starts until after its end.
        self.running: dict[int, Any] = {}
        # Cancelled calls that are still in the inbox.
        self._dropped: set[int] = set()
        self._cancellations: deque[tuple[list[int], bool]] = deque()
        self._expired: deque[int] = deque()
        ours = frozenset({__name__, failures.__name__})
        self._interrupts = Interrupts(self.running, Runners._run.__code__, ours)
        self._functions: dict[int, payload.Payload | Callable[..., Any]] = {}
        self._loading = gevent.lock.RLock()
        # Whether the parent wants to hear when the inbox is low, and what low is.
        self._asked = False
        self._low = 0
        # Invariant: if the inbox is not empty and a runner could take from it, _feed is running or
        # scheduled, or a runner is on its way to the inbox.
        self._feed_scheduled = False
        self._woken = False
        self._turn_began = 0
        self._traced = False  # whether CURRENT is kept
        self._released = 0  # the number of the last RECLAIM
        self._stopped = gevent.event.Event()
        self._stop_requested = False
        self._wake = self._hub.loop.async_()

    # -- on the hub ---------------------------------------------------------------------------

    def serve(
        self, context: contextvars.Context, calls_fd: int, on_readable: Callable[[], None]
    ) -> None:
        """Run calls, each in a copy of ``context``, until the parent says stop.

        Whenever ``calls_fd`` is readable, the hub calls ``on_readable``.
        """
        self._context = context
        self._wake.start(self.look)
        arrivals = self._hub.loop.io(calls_fd, 1)
        arrivals.start(on_readable)
        heartbeat = self._hub.loop.timer(0, _HEARTBEAT_SECONDS, ref=False)
        heartbeat.start(self._beat, update=True)
        # For what arrived before the watchers were started. Not wake(): it thinks that the hub has
        # been told already, but nobody was there to hear it.
        self._hub.loop.run_callback(self.look)
        self._stopped.wait()
        arrivals.close()
        heartbeat.close()
        self._wake.close()

    def _beat(self) -> None:
        self._words[HEARTBEAT] = _monotonic_ns()

    def look(self) -> None:
        """See to what the inbound pipe has brought."""
        self._woken = False
        self._last_turn = 0.0  # what was brought just now begins a turn, though the loop did not
        while self._cancellations:
            self._stop_calls(*self._cancellations.popleft())
        while self._expired:
            self._throw(self._expired.popleft(), CallExpired)
        if self._stop_requested:
            self._stopped.set()
        elif not self._feed_scheduled:
            self._feed()

    def _feed(self) -> None:
        """Give calls in the inbox to runners, for one turn."""
        if self._words[HELD] != self._released:
            self._feed_scheduled = False
            return  # the RECLAIM that is on its way has the hub look
        self._feed_scheduled = True  # a runner woken below need not schedule another feed
        self._turn_began = _monotonic_ns()
        while self._inbox:
            if self._parked:
                self._parked.popitem()[0].switch()
            else:
                if self._free_slots:
                    # It starts in a later callback, takes a call and schedules the next feed.
                    self._pool.spawn(self._run, self._free_slots.pop())
                break
            if _monotonic_ns() - self._turn_began > _TURN_NS:
                self._hub.loop.run_callback(self._feed)
                return
        self._feed_scheduled = False

    def _schedule_feed(self) -> None:
        self._feed_scheduled = True
        self._hub.loop.run_callback(self._feed)

    def _run(self, slot: int) -> None:
        """A runner: take calls and run them, for as long as the process lives."""
        me: Any = getcurrent()
        words = self._words
        inbox = self._inbox
        running = self.running
        put = self._put
        put_first = self._put_first
        loop_now = self._hub.loop.now
        plain_numbers = payload._PLAIN_NUMBERS
        plain_text = payload._PLAIN_TEXT
        slot_id = slot_index(slot)
        slot_since = slot_id + 1
        copy_context = self._context.copy
        now = 0
        try:
            while True:
                if not inbox:
                    self._park(me)
                    continue
                if now - self._turn_began > _TURN_NS:
                    if not self._feed_scheduled:
                        self._schedule_feed()
                    gevent.sleep(0)
                    self._turn_began = _monotonic_ns()
                words[TAKEN] += 1
                if words[HELD] != self._released:
                    words[TAKEN] -= 1
                    self._park(me)
                    continue
                try:
                    call, job, item = inbox.popleft()
                except IndexError:  # the inbound thread recalled the last one just now
                    words[TAKEN] -= 1
                    continue
                if self._asked and len(inbox) <= self._low:
                    self._asked = False
                    put((frames.HUNGRY,))
                if inbox and not self._feed_scheduled:
                    self._schedule_feed()
                if self._dropped and call in self._dropped:
                    self._dropped.discard(call)
                    put((call, frames.CANCELLED, None, None))
                    continue
                now = _monotonic_ns()
                words[slot_since] = now
                words[slot_id] = call
                running[call] = me
                me.call = call
                me.raised = 0  # the call, once something was raised in it from outside
                expiry = self._start_expiry(call, job.timeout) if job.timeout else None
                if job.traced and not self._traced:
                    self._trace()
                if self._traced:
                    words[CURRENT] = call
                stage = "arguments"
                try:
                    function = job.function or self._load(job)
                    if type(item) is tuple:
                        stage = "call"
                        value = copy_context().run(function, *item)
                    else:
                        args, kwargs = payload.loads(item)
                        stage = "call"
                        value = copy_context().run(function, *args, **kwargs)
                        args = kwargs = None
                    kind = type(value)
                    if kind in plain_numbers or (
                        kind in plain_text and len(value) <= _INLINE_LIMIT
                    ):
                        status = frames.VALUE
                    else:
                        stage = "result"
                        value = payload.dumps(value)
                        status = frames.PICKLED
                except StopCall:
                    status, value = frames.CANCELLED, None
                except CallExpired:
                    status, value = frames.TIMED_OUT, job.timeout
                except BaseException as error:
                    status = frames.RETRIABLE if job.is_retriable(error) else frames.ERROR
                    value = failures.describe(error, stage, job.function, item)
                del running[call]  # from here on nothing is raised in it
                if expiry is not None:
                    expiry.close()
                me.call = None
                if self._traced:
                    words[CURRENT] = 0
                words[slot_id] = 0
                seconds = (_monotonic_ns() - now) / 1e9 if job.timed else None
                turn = loop_now()
                if turn == self._last_turn:
                    put((call, status, value, seconds))
                else:
                    self._last_turn = turn
                    put_first((call, status, value, seconds))
                # While it waits for the next call, a runner must keep nothing of this one alive.
                job = item = value = function = args = kwargs = None  # type: ignore[assignment]
        finally:
            # Only a runner that the user's code killed gets here; another takes its place.
            self._parked.pop(me, None)
            self._free_slots.append(slot)

    def _park(self, me: greenlet.greenlet) -> None:
        self._parked[me] = None
        try:
            self._hub.switch()
        except gevent.GreenletExit:
            raise
        except BaseException:
            # A timeout or a throw that an earlier call left behind: nobody is there to get it.
            pass
        finally:
            self._parked.pop(me, None)

    def _load(self, job: Job) -> Callable[..., Any]:
        """The job's function, unpickled when its first call runs."""
        reference = job.reference
        if isinstance(reference, int):
            loaded = self._functions[reference]
            if callable(loaded):
                job.function = loaded
                return loaded
        with self._loading:
            if isinstance(reference, int):
                known = self._functions[reference]
                if not callable(known):
                    known = self._functions[reference] = payload.loads(known)
            else:
                known = payload.loads(reference)
            job.function = known
        return job.function

    def _trace(self) -> None:
        """From now on, say on the status page which call has the CPU."""
        self._traced = True
        tracing.trace(self._words)

    def _start_expiry(self, call: int, timeout: float) -> Any:
        timer = self._hub.loop.timer(timeout)
        timer.start(self._throw, call, CallExpired)
        return timer

    def _throw(self, call: int, error: type[BaseException]) -> None:
        """Raise ``error`` in a running call; only from the hub, so that it cannot hit another."""
        runner = self.running.get(call)
        if runner is not None:
            runner.raised = call
            runner.throw(error())

    def _stop_calls(self, calls: list[int], running: bool) -> None:
        for call in calls:
            if call in self.running:
                self._dropped.discard(call)
                if running:
                    self._throw(call, StopCall)
        if self._dropped:
            self._dropped &= {call for call, _, _ in list(self._inbox)}

    # -- from the inbound pipe's reader, on the hub or its thread -------------------------------

    def learn(self, number: int, function: payload.Payload) -> None:
        """Know ``function`` by ``number`` from now on."""
        self._functions[number] = function

    def forget(self, number: int) -> None:
        """Forget the function known by ``number``."""
        self._functions.pop(number, None)

    def add(self, calls: Iterable[Call], count: int) -> None:
        """Put calls into the inbox; :meth:`look` must follow, or :meth:`wake`."""
        self._inbox.extend(calls)
        self._low = count // 2

    def ask(self) -> None:
        """Say when the inbox is low."""
        self._asked = True
        if len(self._inbox) <= self._low:
            self._asked = False
            self._put((frames.HUNGRY,))

    def wake(self) -> None:
        """Have the hub look."""
        if not self._woken:
            self._woken = True
            self._wake.send()

    def cancel(self, calls: list[int], running: bool) -> None:
        """Drop those calls that have not started; with ``running``, stop those that have."""
        self._dropped.update({call for call, _, _ in list(self._inbox)}.intersection(calls))
        if running:
            for call in calls:
                if self._interrupts.interrupt(call, StopCall):
                    break  # only one has the CPU
        self._cancellations.append((calls, running))

    def insist(self) -> bool:
        """Interrupt once more what is to be stopped and was just about to start, or in code of
        ours, the first time; whether there are cancellations that the hub has not got to."""
        for calls, running in list(self._cancellations):
            for call in calls if running else ():
                self._interrupts.interrupt(call, StopCall)
        return bool(self._cancellations)

    def expire(self, call: int) -> None:
        """Stop a call whose time is up, unless it has been told: then it may be cleaning up."""
        runner = self.running.get(call)
        if runner is None or runner.raised == call:
            return
        if not self._interrupts.interrupt(call, CallExpired):
            self._expired.append(call)

    def recall(self, count: int) -> list[int]:
        """Take back up to ``count`` calls that have not started, the newest first."""
        calls: list[int] = []
        try:
            while len(calls) < count:
                calls.append(self._inbox.pop()[0])
        except IndexError:
            pass
        self._dropped.difference_update(calls)
        return calls

    def reclaim(self, number: int, calls: list[int]) -> None:
        """Forget these calls, the last that were sent: they run elsewhere. Take others again.

        :meth:`look` must follow, or :meth:`wake`.
        """
        gone = set(calls)
        try:
            while self._inbox[-1][0] in gone:
                self._inbox.pop()
        except IndexError:
            pass
        self._dropped.difference_update(gone)
        self._released = number

    def stop(self) -> None:
        """End :meth:`serve`."""
        self._stop_requested = True
