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
import time
from collections import deque
from collections.abc import Callable
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
from .inbox import Inbox, Job, Run
from .interrupts import Interrupts

#: The hub sees to everything else after it has woken runners for so long.
_TURN_SECONDS = 0.005
#: How often the hub shows that it is alive.
_HEARTBEAT_SECONDS = 0.1

_VALUE = frames.VALUE
_INLINE_LIMIT = payload.INLINE_LIMIT
_PLAIN_NUMBERS, _PLAIN_TEXT = payload._PLAIN_NUMBERS, payload._PLAIN_TEXT
_monotonic = time.monotonic


class StopCall(gevent.GreenletExit):
    """Raised in a call that was cancelled, at the point where it waits."""


class CallExpired(gevent.GreenletExit):
    """Raised in a call whose time is up, at the point where it waits."""


class Runner(gevent.Greenlet):  # type: ignore[type-arg]  # it is generic for the checker only
    """A greenlet that runs calls, one after another."""

    slot = -1
    #: The last call in which something was raised from outside.
    raised = 0


class Row:
    """Plain results of calls in a row, on their way out.

    The runner that makes them appends; whoever writes takes from the front, on either thread. A row
    is put into the outbox whenever a value is added to none, so none is left behind.
    """

    __slots__ = ("first", "values")

    def __init__(self, first: int) -> None:
        self.first = first  # the id of the call that values[0] is the result of
        self.values: list[Any] = []

    def take(self, most: int) -> tuple[int, list[Any]]:
        """Up to so many values, and the id of the first one's call."""
        first, values = self.first, self.values[:most]
        del self.values[: len(values)]
        self.first += len(values)
        return first, values


#: What leaves the worker: a result ``(id, status, value, seconds)``, a row of results, or a shorter
#: head of a frame.
Entry = tuple[Any, ...] | Row
Put = Callable[[Entry], None]


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
        self._last_turn = -1  # the turn, as the loop counts them, that last had a result
        self._words = page.words
        self._times = page.times
        #: The main thread, by the system's name for it; gevent patches the usual ones.
        self.thread: int = native.original("_thread", "get_ident")()
        self._hub = gevent.get_hub()
        self._pool = gevent.pool.Pool(concurrency, greenlet_class=Runner)
        self._context = contextvars.Context()
        self._inbox = Inbox()
        self._taken = 0  # how many calls were taken out of the inbox
        # Invariant: a slot is in _free_slots or owned by one living runner.
        self._free_slots = list(range(concurrency - 1, -1, -1))
        # Runners that wait for a call; the last to park is the first to be woken, so that few
        # stay warm. A dict, because a runner that is killed must be found.
        self._parked: dict[greenlet.greenlet, None] = {}
        # The call that was begun last and who runs it; 0 if it has ended, or waits.
        # Invariant: a call is this one, or in _waiting, from before its function starts until after
        # its end. (That most calls never get there makes them a tenth of a microsecond shorter.)
        self._call = 0
        self._runner: Any = None
        # Who runs which call that waits, or has waited.
        self._waiting: dict[int, Any] = {}
        self._cancellations: deque[tuple[list[int], bool]] = deque()
        self._expired: deque[int] = deque()
        ours = frozenset({__name__, failures.__name__})
        self._interrupts = Interrupts(self.runner_of, Runners._run_calls.__code__, ours)
        self._functions: dict[int, payload.Payload | Callable[..., Any]] = {}
        self._loading = gevent.lock.RLock()
        # Invariant: if the inbox is not empty and a runner could take from it, _feed is running or
        # scheduled, or a runner is on its way to the inbox.
        self._feed_scheduled = False
        self._woken = False
        #: Whether the hub should see to the others: set by the attendant, which looks at the clock
        #: so that a runner need not do so for every call.
        self.turn_over = False
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
        self._times[HEARTBEAT] = _monotonic()

    def look(self) -> None:
        """See to what the inbound pipe has brought."""
        self._woken = False
        self._last_turn = -1  # what was brought just now begins a turn, though the loop did not
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
        self.turn_over = False
        began = _monotonic()
        while self._inbox.head() is not None:
            if self._parked:
                self._parked.popitem()[0].switch()
            else:
                if self._free_slots:
                    # It starts in a later callback, takes a call and schedules the next feed.
                    self._pool.spawn(self._run, self._free_slots.pop())
                break
            if _monotonic() - began > _TURN_SECONDS:
                self._hub.loop.run_callback(self._feed)
                return
        self._feed_scheduled = False

    def _schedule_feed(self) -> None:
        self._feed_scheduled = True
        self._hub.loop.run_callback(self._feed)

    def _run(self, slot: int) -> None:
        """A runner: take calls and run them, for as long as the process lives."""
        me: Any = getcurrent()
        me.slot = slot
        try:
            while True:
                run = self._inbox.head()
                if run is None or self._words[HELD] != self._released:
                    run = None
                    self._park(me)
                    continue
                self._run_calls(me, slot, run)
                self._words[slot_index(slot)] = 0
                run = None
                if self.turn_over:
                    if not self._feed_scheduled:
                        self._schedule_feed()
                    gevent.sleep(0)
                    self.turn_over = False
        finally:
            # Only a runner that the user's code killed gets here; another takes its place.
            self._parked.pop(me, None)
            self._free_slots.append(slot)

    def _run_calls(self, me: Runner, slot: int, run: Run) -> None:
        """Take calls out of ``run`` and run them, until there are none, one has waited, or the hub
        must see to the others.

        As long as no call waits, nothing else runs on this thread: what others may change meanwhile
        only then is kept in locals, because every bytecode counts here.
        """
        words = self._words
        inbox = self._inbox
        put = self._put
        copy_context = self._context.copy
        items, job, bare = run.items, run.job, run.bare
        function = job.function
        released = self._released
        special = job.special or self._traced
        feed_scheduled = self._feed_scheduled
        slot_id = slot_index(slot)
        taken = self._taken
        following = run.next
        plain = frames.VALUE
        row: Row | None = None
        values: list[Any] = []  # the row's
        stage = "call"
        if self._call:  # it has not ended, so it waits
            self._waiting[self._call] = self._runner
            self._call = 0
        self._runner = me
        # Unless the calls are timed, when the first began is good enough for those after it.
        self._times[slot_id + 1] = began = _monotonic()
        while items and not self.turn_over:
            words[TAKEN] = taken + 1
            try:
                if words[HELD] != released:
                    raise IndexError
                item = items.popleft()
            except IndexError:  # the rest has been taken back just now, or is about to be
                words[TAKEN] = taken
                break
            taken += 1
            self._taken = taken
            call = following
            run.next = following = call + 1
            if not feed_scheduled and (items or len(inbox.runs) > 1):
                feed_scheduled = True
                self._schedule_feed()
            if inbox.asked and inbox.arrived - taken <= inbox.low:
                inbox.asked = False
                put((frames.HUNGRY,))
            if inbox.dropped and call in inbox.dropped:
                inbox.dropped.discard(call)
                put((call, frames.CANCELLED, None, None))
                row = None
                continue
            words[slot_id] = call
            self._call = call
            if special:
                self._times[slot_id + 1] = began = _monotonic()
                expiry = self._begin_special(call, job)
            try:
                if function is None:
                    stage = "arguments"
                    function = self._load(job)
                    stage = "call"
                if bare:
                    value = copy_context().run(function, item)
                elif type(item) is tuple:
                    value = copy_context().run(function, *item)
                else:
                    stage = "arguments"
                    args, kwargs = payload.loads(item)
                    stage = "call"
                    value = copy_context().run(function, *args, **kwargs)
                    args = kwargs = None
                kind = type(value)
                if kind in _PLAIN_NUMBERS or (kind in _PLAIN_TEXT and len(value) <= _INLINE_LIMIT):
                    status = plain
                else:
                    stage = "result"
                    value = payload.dumps(value)
                    stage = "call"
                    status = frames.PICKLED
            except StopCall:
                status, value = frames.CANCELLED, None
            except CallExpired:
                status, value = frames.TIMED_OUT, job.timeout
            except BaseException as error:
                status = frames.RETRIABLE if job.is_retriable(error) else frames.ERROR
                value = failures.describe(error, stage, function, (item,) if bare else item)
            # From here on nothing is raised in it.
            waited = self._call != call
            if waited:
                del self._waiting[call]
            else:
                self._call = 0
                if row is not None and status == plain:
                    values.append(value)
                    if len(values) == 1:
                        put(row)
                    continue
            seconds = self._end_special(expiry, job, began) if special else None
            if self._is_new_turn():
                self._put_first((call, status, value, seconds))
                row = None
            elif status == plain and not special:
                row = Row(call)
                values = row.values
                values.append(value)
                put(row)
            else:
                put((call, status, value, seconds))
                row = None
            # Nothing of a call is kept alive while others run.
            item = value = args = kwargs = None
            if waited:
                break
            stage = "call"

    def _is_new_turn(self) -> bool:
        """Whether nothing has asked this before in this turn of the hub."""
        turn = self._hub.loop.iteration
        before, self._last_turn = self._last_turn, turn
        return turn != before

    def _begin_special(self, call: int, job: Job) -> Any:
        """A call is about to start about which there is more to do; its timer, if it has one."""
        if job.traced and not self._traced:
            self._traced = True
            tracing.trace(self._words, self.call_of)
        if self._traced:
            self._words[CURRENT] = call
        if job.timeout is None:
            return None
        timer = self._hub.loop.timer(job.timeout)
        timer.start(self._throw, call, CallExpired)
        return timer

    def _end_special(self, expiry: Any, job: Job, began: float) -> float | None:
        """Such a call has ended; how many seconds it took, if that is wanted."""
        if expiry is not None:
            expiry.close()
        if self._traced:
            self._words[CURRENT] = 0
        return _monotonic() - began if job.timed else None

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

    def _throw(self, call: int, error: type[BaseException]) -> None:
        """Raise ``error`` in a running call; only from the hub, so that it cannot hit another."""
        runner = self.runner_of(call)
        if runner is not None:
            runner.raised = call
            runner.throw(error())

    def _stop_calls(self, calls: list[int], running: bool) -> None:
        for call in calls:
            if self.runner_of(call) is not None:
                self._inbox.dropped.discard(call)
                if running:
                    self._throw(call, StopCall)
        self._inbox.forget_dropped()

    def call_of(self, who: object) -> int:
        """The call that a greenlet runs; 0 if it runs none."""
        return self._words[slot_index(who.slot)] if type(who) is Runner and who.slot >= 0 else 0

    # -- from the inbound pipe's reader, on the hub or its thread -------------------------------

    def runner_of(self, call: int) -> Any:
        """The runner that runs a call; None if it does not run."""
        return self._runner if self._call == call else self._waiting.get(call)

    def learn(self, number: int, function: payload.Payload) -> None:
        """Know ``function`` by ``number`` from now on."""
        self._functions[number] = function

    def forget(self, number: int) -> None:
        """Forget the function known by ``number``."""
        self._functions.pop(number, None)

    def add(self, run: Run) -> None:
        """Put calls into the inbox; :meth:`look` must follow, or :meth:`wake`."""
        self._inbox.add(run)

    def ask(self, low: int) -> bool:
        """Say when no more than ``low`` calls wait in the inbox; whether that is so now."""
        inbox = self._inbox
        inbox.low = low
        inbox.asked = inbox.arrived - self._taken > low
        return not inbox.asked

    def wake(self) -> None:
        """Have the hub look."""
        if not self._woken:
            self._woken = True
            self._wake.send()

    def cancel(self, calls: list[int], running: bool) -> None:
        """Drop those calls that have not started; with ``running``, stop those that have."""
        self._inbox.drop(calls)
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
        runner = self.runner_of(call)
        if runner is None or runner.raised == call:
            return
        if not self._interrupts.interrupt(call, CallExpired):
            self._expired.append(call)

    def recall(self, count: int) -> list[int]:
        """Take back up to ``count`` calls that have not started, the newest first."""
        return self._inbox.take_back(count)

    def reclaim(self, number: int, calls: list[int]) -> None:
        """Forget these calls, the last that were sent: they run elsewhere. Take others again.

        :meth:`look` must follow, or :meth:`wake`.
        """
        self._inbox.remove(set(calls))
        self._released = number

    def stop(self) -> None:
        """End :meth:`serve`."""
        self._stop_requested = True
