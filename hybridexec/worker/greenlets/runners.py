"""Takes calls from the inbox and runs them in greenlets.

Thread: main, in the runners that :mod:`.feed` keeps. The methods under "from who reads the call
pipe" are also called on the helper thread: they only read, by single operations, which the GIL
makes atomic.
Guarantees: a call's exception, whatever it is, becomes that call's result and affects no other;
calls are taken in the order in which they were sent; a call that waits holds its runner only.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
import gevent.hub

from ... import native
from ...wire import messages, payload
from ...wire.page import HELD, TAKEN, StatusPage, slot_index
from .. import failures, stacks
from ..functions import Functions
from ..inbox import Inbox, Job, Span
from ..rows import BY_ITSELF, NO_ROW, PLAIN, Entry, Put, Row
from ..vitals import Vitals
from . import forks
from .feed import Feed, Runner
from .service import Service
from .stops import CallExpired, StopCall, Stops
from .watch import LOAD_SECONDS, Watch

if TYPE_CHECKING:
    from ..sources import Sources

#: While at least so many other calls wait, the result of one that has waited may leave with theirs.
_CROWD = 32

_CANCELLED = messages.CANCELLED, None
_INLINE_LIMIT = payload.INLINE_LIMIT
_LONGEST_RECORD = payload.LONGEST_RECORD
_PLAIN_NUMBERS, _PLAIN_TEXT = payload._PLAIN_NUMBERS, payload._PLAIN_TEXT
_monotonic = native.monotonic


class Runners(Watch):
    """Runs calls in a gevent pool."""

    def __init__(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        put: Put,
        put_first: Put,
        put_late: Callable[[Entry, float], None],
        call_helper: Callable[[], None],
    ) -> None:
        """
        Args:
            page: where to write what runs; as many calls may run at once as it has slots.
            put: takes what the parent shall get.
            put_first: the same for the first result in a turn of the hub.
            put_late: the same for that of a call that has waited since then, as many others do.
            call_helper: has the helper thread look, within milliseconds.
        """
        # No more than 30 attributes: with more, CPython takes longer to get at any of them.
        self._put = put
        self._put_first = put_first
        self._put_late = put_late
        self._last_turn = -1  # the turn, as the loop counts them, that last had a result
        self._words = page.words
        self._times = page.times
        # The main thread, by the system's name for it; gevent patches the usual ones.
        self._thread: int = native.ident()
        self._loop = gevent.get_hub().loop
        self._context = contextvars.Context()
        self._inbox = inbox
        #: Has runners take the calls there are.
        self.feed = Feed(page.slots, page.words, inbox, self._run_calls)
        # The call that was begun last and who runs it; 0 if it has ended, or waits.
        # Invariant: a call is this one, or in _waiting, from before its function starts until after
        # its end. (That most calls never get there makes them a tenth of a microsecond shorter.)
        self._call = 0
        self._runner: Any = None
        # Who runs which call that waits, or has waited.
        self._waiting: dict[int, Any] = {}
        # Whose functions _run_calls calls itself.
        ours = frozenset(
            function.__code__.co_filename
            for function in (
                Runners.__init__,
                Watch._trace,
                Feed.__init__,
                Job.__init__,
                Functions.__init__,
                failures.outcome,
                forks.leave,
            )
        )
        #: Stops running calls.
        self.stops = Stops(
            self.runner_of, self.call_of, self.run_code, ours, self.feed.stop, inbox, call_helper
        )
        self._load = functions.load
        self._forgotten = functions.forgotten
        self._vitals = Vitals(page)
        #: Those of streaming calls; None before there was one.
        self.sources: Sources | None = None
        #: Wakes the hub, and ends it.
        self.service = Service(self.look, self._vitals.beat)

    # -- on the hub ---------------------------------------------------------------------------

    def serve(
        self, context: contextvars.Context, calls_fd: int, on_readable: Callable[[], None]
    ) -> None:
        """Run calls, each in a copy of ``context``, until the parent says stop.

        Whenever ``calls_fd`` is readable, the hub calls ``on_readable``.
        """
        self._context = context
        self.service.run(calls_fd, on_readable)

    def look(self) -> None:
        """See to what the call pipe has brought."""
        service, stops = self.service, self.stops
        service.woken = False
        self._last_turn = -1  # what was brought just now begins a turn, though the loop did not
        if stops.cancelled or stops.expired:
            stops.look()
        if self.sources is not None:
            self.sources.look()
        if self._forgotten:
            gevent.spawn(self._forgotten.clear)  # not in the hub, where nothing may wait
        if service.stopping:
            service.end()
        else:
            self.feed.begin()

    def _run_calls(self, me: Runner, slot_id: int, span: Span) -> None:
        """Take calls out of ``span`` and run them, until there are none, one has waited, or the hub
        must see to the others.

        Four stages for each call: take it, begin it, run it (and pickle its result), answer. They
        stay in one function, and what others may change only while a call waits is kept in locals,
        because a no-op's cost is the number of bytecodes here. As long as no call waits, nothing
        else runs on this thread.
        """
        words = self._words
        inbox = self._inbox
        put = self._put
        copy_context = self._context.copy
        loop = self._loop
        feed = self.feed
        items, job, prelude = span.items, span.job, span.prelude
        ahead, first_ahead = span.ahead, span.first_ahead
        single, bare = span.bare, span.bare and prelude is None
        function, packer = job.function, job.packer
        released = inbox.released
        special = job.special or self._traced
        feed_due = feed.is_due
        taken = words[TAKEN]
        first = following = span.next
        values, in_row = [], NO_ROW  # the row's, and their form
        # press makes the row's fragments; values of the type number are plain whatever they are.
        nothing: Any = None
        row = press = number = expiry = value = nothing
        stage, waited = "call", False
        if self._call:  # it has not ended, so it waits
            self._waiting[self._call] = self._runner
            words[slot_index(self._runner.slot)] = self._call
            self._call = 0
        self._runner = me
        words[slot_id] = taken + 1 - following  # this, until a call waits
        # Unless the calls are timed, when the first began is good enough for those after it.
        began = self._times[slot_id + 1] = _monotonic()
        while items and not feed.turn_over:
            # Take.
            taken += 1
            words[TAKEN] = taken
            try:
                if words[HELD] != released:
                    raise IndexError
                item = items.popleft()
            except IndexError:  # the rest has been taken back just now, or is about to be
                words[TAKEN] = taken - 1
                break
            call = following
            span.next = following = call + 1
            if not feed_due and (items or len(inbox.spans) > 1):
                feed_due = True
                feed.schedule()
            if inbox.asked and taken >= inbox.low_at:
                inbox.asked = False
                put(messages.LowWatermark())
            if inbox.dropped and call in inbox.dropped:
                inbox.dropped.discard(call)
                if call - first_ahead < len(ahead):
                    ahead[call - first_ahead] = None
                put((call, messages.CANCELLED, None, None))
                in_row, press, number = NO_ROW, None, None
                continue
            # Begin.
            self._call = call
            if special:
                words[slot_id] = call
                self._trace(call, job)
                if function is not None:
                    expiry = self._begin_time(call, job, slot_id)
            # Run.
            try:
                if function is None:
                    stage = "arguments"
                    self._times[slot_id + 1] = _monotonic() + LOAD_SECONDS
                    function = self._load(job)
                    expiry = self._begin_time(call, job, slot_id)
                    began = self._times[slot_id + 1]
                    stage = "call"
                if bare:
                    value = copy_context().run(function, item)
                elif type(item) is tuple:
                    value = copy_context().run(function, *item)
                elif prelude is not None and type(item) is bytes:
                    place = call - first_ahead
                    if place >= len(ahead):
                        stage = "arguments"
                        ahead, first_ahead, place = span.unpickle(call, item), call, 0
                        stage = "call"
                    args, ahead[place] = ahead[place], None
                    if single:
                        value = copy_context().run(function, args)
                    else:
                        value = copy_context().run(function, *args)
                    args = None
                else:
                    stage = "arguments"
                    args, kwargs = payload.loads(item)
                    stage = "call"
                    value = copy_context().run(function, *args, **kwargs)
                    args = kwargs = None
                kind = type(value)
                plain = kind is number
                if not plain and (packer is None or type(in_row) is not bytes):
                    if kind is tuple:  # see payload.is_record
                        if len(value) <= _LONGEST_RECORD:
                            for each in value:
                                part = type(each)
                                if part is str or part is bytes:
                                    if len(each) > _INLINE_LIMIT:
                                        break
                                elif part is not int and part not in _PLAIN_NUMBERS:
                                    break
                            else:
                                plain = True
                    else:
                        plain = kind in _PLAIN_NUMBERS or (
                            kind in _PLAIN_TEXT and len(value) <= _INLINE_LIMIT
                        )
                if plain:
                    form = PLAIN
                else:
                    stage = "result"
                    status, fragment = messages.PICKLED, None
                    # What leaves in no row is not packed: see below.
                    if press is not None and self._call is call:
                        form = in_row
                        try:
                            fragment = press(value)
                        except (ValueError, StopIteration):
                            press = None  # see Packer.press
                    elif not special and self._call is call and loop.iteration == self._last_turn:
                        packer = packer or job.new_packer()
                        form, fragment = packer.prelude, packer.pack(value)
                    if fragment is None or self._call is not call:
                        form, value = BY_ITSELF, payload.dumps(value)
                    else:
                        value = fragment
                    stage = "call"
            except BaseException as error:
                form = BY_ITSELF
                if isinstance(error, StopCall | CallExpired) and me.raised[0] == call:
                    stopped = isinstance(error, StopCall)
                    status, value = _CANCELLED if stopped else (messages.TIMED_OUT, job.timeout)
                else:
                    if not isinstance(error, Exception):
                        feed.wear(me)
                    item = (item,) if bare else item
                    forks.leave(error)
                    status, value = failures.outcome(error, job, stage, function, item, value)
            # Answer. From here on nothing is raised in it.
            if self._call is call:
                self._call = 0
                if form is in_row:
                    values.append(value)
                    if len(values) == 1:
                        put(row)
                    continue
                waited = False
            else:
                waited = True
                del self._waiting[call]
            if form is PLAIN:
                status = messages.VALUE
            seconds = (
                self._end_special(expiry, job, slot_id, function is not None) if special else None
            )
            turn = loop.iteration
            if waited and len(self._waiting) >= _CROWD:
                self._put_late((call, status, value, seconds), self._times[slot_id + 1])
            elif turn != self._last_turn:
                self._last_turn = turn
                self._put_first((call, status, value, seconds))
                in_row, press, number = NO_ROW, None, None
                if not waited and (items or len(inbox.spans) > 1):
                    feed.look_at_clock(self._times[slot_id + 1])
            elif form is not BY_ITSELF and not special:
                row, in_row = Row(call, form), form
                press = job.press(form)
                number = kind if form is PLAIN and kind in _PLAIN_NUMBERS else None
                values = row.values
                values.append(value)
                put(row)  # after which the helper thread looks at the clock
                if not waited:
                    feed.look_at_clock(self._times[slot_id + 1])
            else:
                put((call, status, value, seconds))
                in_row, press, number = NO_ROW, None, None
            # Nothing of a call is kept alive while others run.
            item = value = args = kwargs = each = None
            if waited:
                break
            stage = "call"
        self._words[slot_id] = 0
        if following > first:
            self._vitals.ran(following - first, began - span.since, _monotonic() - began, waited)

    #: What calls are called from.
    run_code = _run_calls.__code__

    def let_go(self) -> None:
        """In a child of the process: take no calls, and keep the status page to itself."""
        for span in self._inbox.spans:
            span.items.clear()
        self.feed.turn_over = False
        words = bytearray(self._words)
        self._words, self._times = memoryview(words).cast("q"), memoryview(words).cast("d")
        self._vitals.let_go()
        if self.sources is not None:
            self.sources.let_go()

    # -- from who reads the call pipe -----------------------------------------------------------

    def runner_of(self, call: int) -> Any:
        """The runner that runs a call; None if it does not run."""
        return self._runner if self._call == call else self._waiting.get(call)

    def where(self) -> tuple[int, str]:
        """The call that has the CPU, and the main thread's stack; neither, if that asks."""
        if native.ident() == self._thread:
            return 0, ""
        return stacks.whereabouts(
            self._thread, self.run_code, lambda call: self.runner_of(call) is not None
        )

    def stacks(self) -> tuple[int, list[messages.StackGroup], int]:
        """Where the running calls are; see :meth:`.Lane.stacks`."""
        waiting = [(self._call, self._runner), *list(self._waiting.items())]
        frames = [(call, who.gr_frame) for call, who in waiting if call and who is not None]
        busy = None if native.ident() == self._thread else self._thread
        current, groups, more = stacks.all_stacks(
            busy, frames, self.run_code, lambda call: self.runner_of(call) is not None
        )
        # A hub that waits, or sees to something, is no news.
        told = [group for group in groups if any(group[1]) or not _is_hub(group[2])]
        return current, told, more


def _is_hub(places: list[tuple[str, int, str]]) -> bool:
    return not places or places[-1][0] == gevent.hub.__file__
