"""Takes calls from the inbox and runs each as a task.

Thread: main, in callbacks of the loop and in tasks. What is said to be for other threads only
reads, by single operations, which the GIL makes atomic.
Guarantees: a call's exception, whatever it is, becomes that call's result and affects no other, nor
the loop; calls are taken in the order in which they were sent, one at a time: the next when the one
before it waits or has ended; when calls have held the loop for some milliseconds, none is taken
until it has come round.

Whoever runs for a call finds its id in a context variable: the call's task, tasks and callbacks
that it has started, and threads that were given its context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from inspect import isawaitable
from types import CoroutineType
from typing import Any

from ... import native
from ...wire import messages, payload
from ...wire.page import CURRENT, HELD, TAKEN, StatusPage, slot_index
from .. import failures, faults
from ..functions import Functions
from ..inbox import Inbox, Job, Span
from ..rows import BY_ITSELF
from ..vitals import Vitals
from . import forks
from .answers import Answers
from .eager import Start
from .stops import CallExpired, StopCall, Stops
from .traced import Traced

#: Calls that have held the loop for so long let it come round.
_TURN_SECONDS = 0.005
#: While at least so many other calls wait, the result of one that has waited may leave with theirs.
_CROWD = 32
#: A call's time does not begin before its function is there, but after so many seconds: importing
#: its module may take long, and must not take for ever.
_LOAD_SECONDS = 60.0
#: Types of most results of plain functions. Nothing of theirs is awaited.
_DATA = frozenset({int, float, bool, complex, type(None), str, bytes, tuple, list, dict, set})
_NO_KEYWORDS: dict[str, Any] = {}

_monotonic = native.monotonic

#: The call that code runs for; 0, or not set, if for none.
calling: ContextVar[int] = ContextVar("hybridexec_call", default=0)


class Calls:
    """Runs calls as tasks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        answers: Answers,
        put: Callable[[messages.ToParent], None],
        start: Start,
    ) -> None:
        """
        Args:
            page: where to write what runs; as many calls may run at once as it has slots.
            answers: takes how calls have ended.
            put: takes what else the parent shall get.
            start: starts a task.
        """
        self._loop = loop
        self._words, self._times = page.words, page.times
        self._inbox = inbox
        self._load = functions.load
        self._answers = answers
        self._put = put
        self._start = start
        self.vitals = Vitals(page)
        #: The context that each call starts from.
        self.context = Context()
        # Ours, in which nothing of a call's is to be found.
        self._context = Context()
        # Invariant: a slot is in _free or that of one call that is begun and has not ended.
        self._free = list(range(page.slots - 1, -1, -1))
        # The call that was begun last; 0 if it has ended, or waits.
        # Invariant: a running call is this one, or in tasks, until its function has ended.
        self._call = 0
        #: The tasks of calls that wait, or have waited.
        self.tasks: dict[int, asyncio.Task[None]] = {}
        #: Stops running calls.
        self.stops = Stops(self.tasks, inbox)
        #: Whether the loop must come round before a call is taken. The helper thread sets it, too.
        self.turn_over = False
        self._is_due = False  # whether the loop will call _feed
        self._traced = False  # whether CURRENT is kept

    # -- taking -----------------------------------------------------------------------------------

    def feed(self) -> None:
        """There may be something in the inbox."""
        if not self._is_due:
            self._feed()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._feed, context=self._context)

    def _feed(self) -> None:
        """Begin the calls in the inbox, as long as there are slots, until the turn is over."""
        self._is_due = True  # calls that end need not schedule another
        try:
            if self._words[HELD] == self._inbox.released:  # if not, a Reclaim will have us look
                self.turn_over = False
                ends = _monotonic() + _TURN_SECONDS
                while self._free and not self.turn_over:
                    span = self._inbox.head()
                    if span is None or not self._take(span, ends):
                        break
        except BaseException as error:
            faults.end(error)
        self._is_due = False
        if self.turn_over and self._free and self._inbox.spans:
            self._schedule()

    def _take(self, span: Span, ends: float) -> bool:
        """Begin calls of a span, while there are slots and time; whether there may be more."""
        words, times, inbox = self._words, self._times, self._inbox
        free, tasks = self._free, self.tasks
        items = span.items
        released = inbox.released
        slot = free.pop()
        slot_id = slot_index(slot)
        began = now = _monotonic()
        ended = 0  # calls that never waited
        more = True
        while items and not self.turn_over:
            taken = words[TAKEN] + 1
            words[TAKEN] = taken
            try:
                if words[HELD] != released:
                    raise IndexError
                item = items.popleft()
            except IndexError:  # the rest has been taken back just now, or is about to be
                words[TAKEN] = taken - 1
                more = False
                break
            call = span.next
            span.next = call + 1
            if inbox.asked and taken >= inbox.low_at:
                inbox.asked = False
                self._put(messages.LowWatermark())
            if inbox.dropped and call in inbox.dropped:
                self._drop(span, call)
                continue
            times[slot_id + 1] = now
            words[slot_id] = self._call = call
            task = self._start(self._run(call, span, item, slot), self.context.copy())
            item = None  # nothing of a call is kept alive while others run
            if task.done():
                ended += 1
            else:
                tasks[call] = task
                self._call = 0
                slot = -1
                if ended:
                    self.vitals.ran(ended, began - span.since, _monotonic() - began, False)
                    ended = 0
                if not free:
                    break
                slot = free.pop()
                slot_id = slot_index(slot)
            now = _monotonic()
            if not ended:
                began = now
            if now > ends:
                self.turn_over = True
        task = None  # type: ignore[assignment]
        if slot >= 0:
            words[slot_id] = 0
            free.append(slot)
        if ended:
            self.vitals.ran(ended, began - span.since, now - began, False)
        return more

    def _drop(self, span: Span, call: int) -> None:
        """A call was cancelled before it has started."""
        self._inbox.dropped.discard(call)
        place = call - span.first_ahead
        if place < len(span.ahead):
            span.ahead[place] = None
        self._answers.answer((call, messages.CANCELLED, None, None), BY_ITSELF, span.job)

    # -- running ----------------------------------------------------------------------------------

    async def _run(self, call: int, span: Span, item: Any, slot: int) -> None:
        """A call's task: begin it, run it and pickle its result, answer.

        It has few variables, because each takes memory in all calls that wait.
        """
        calling.set(call)
        stage = "call"
        function = span.job.function
        bare = span.bare and span.prelude is None
        value: Any = None
        expiry: asyncio.TimerHandle | None = None
        try:
            if function is None:
                stage = "arguments"
                self._times[slot_index(slot) + 1] = _monotonic() + _LOAD_SECONDS
                function = self._load(span.job)
                stage = "call"
                self._times[slot_index(slot) + 1] = _monotonic()
            if span.job.special or self._traced:
                expiry = self._begin_special(call, span)
            if bare:
                value = function(item)
            elif type(item) is tuple:
                value = function(*item)
            else:
                stage = "arguments"
                value = _arguments(call, span, item)
                stage = "call"
                value = function(*value[0], **value[1])
            if type(value) is CoroutineType or (type(value) not in _DATA and isawaitable(value)):
                value = await (Traced(value, self._words, call) if self._traced else value)
            stage = "result"
            value = self._answers.pack(
                call, span.job, value, span.job.special or self._traced or self._call != call
            )
        except BaseException as error:
            forks.leave(error)
            value = self._outcome_of(error, call, span.job, stage, function, item, value, bare)
        forks.leave()
        try:
            item = None
            self._end(call, span, slot, value, expiry, function is not None)
        except BaseException as error:
            faults.end(error)

    #: What calls are called from.
    run_code = _run.__code__

    def _outcome_of(
        self,
        error: BaseException,
        call: int,
        job: Job,
        stage: str,
        function: Callable[..., Any] | None,
        item: Any,
        value: Any,
        bare: bool,
    ) -> tuple[int, Any, Any]:
        """How a call ends that has raised ``error``: its status, form and value."""
        told = self.stops.what_ended(call, error)
        if told is StopCall:
            return messages.CANCELLED, BY_ITSELF, None
        if told is CallExpired:
            return messages.TIMED_OUT, BY_ITSELF, job.timeout
        item = (item,) if bare else item
        status, told_of = failures.outcome(error, job, stage, function, item, value)
        return status, BY_ITSELF, told_of

    def _begin_special(self, call: int, span: Span) -> asyncio.TimerHandle | None:
        """A call is about to start about which there is more to do than to run it; its timer, if it
        has one."""
        job = span.job
        if job.traced:
            self._traced = True
        if self._traced:
            self._words[CURRENT] = call
        if job.timeout is None:
            return None
        return self._loop.call_later(
            job.timeout, self.stops.stop, call, CallExpired, context=self._context
        )

    def _end(
        self,
        call: int,
        span: Span,
        slot: int,
        outcome: tuple[int, Any, Any],
        expiry: asyncio.TimerHandle | None,
        loaded: bool,
    ) -> None:
        """A call has ended: answer. From here on nothing is raised in it."""
        status, form, value = outcome
        job, slot_id = span.job, slot_index(slot)
        waited = self._call != call
        if waited:
            del self.tasks[call]
        else:
            self._call = 0
        self.stops.forget(call)
        if expiry is not None:
            expiry.cancel()
        if self._traced:
            self._words[CURRENT] = 0
        seconds: float | None = None
        if waited or job.timed:
            began = self._times[slot_id + 1] - (0.0 if loaded else _LOAD_SECONDS)
            seconds = _monotonic() - began
        result = call, status, value, seconds if job.timed else None
        if job.special:
            form = BY_ITSELF
        if not waited:
            self._answers.answer(result, form, job)
            return
        assert seconds is not None
        if len(self.tasks) >= _CROWD:
            self._answers.answer_late(result, form, began)
        else:
            self._answers.answer(result, form, job)
        self._words[slot_id] = 0
        self._free.append(slot)
        self.vitals.ran(1, began - span.since, seconds, True)
        if self._inbox.spans:
            self._schedule()

    # -- for other threads, too -------------------------------------------------------------------

    def runs(self, call: int) -> bool:
        """Whether a call is running."""
        return bool(call) and (call == self._call or call in self.tasks)

    def let_go(self) -> None:
        """In a child of the process: take no calls, and keep the status page to itself."""
        for span in self._inbox.spans:
            span.items.clear()
        words = bytearray(self._words)
        self._words, self._times = memoryview(words).cast("q"), memoryview(words).cast("d")
        self.vitals.let_go()


def _arguments(call: int, span: Span, item: Any) -> tuple[Any, dict[str, Any]]:
    """What a call gets."""
    if span.prelude is None or type(item) is not bytes:
        arguments, keywords = payload.loads(item)
        return arguments, keywords
    place = call - span.first_ahead
    if place >= len(span.ahead):
        span.unpickle(call, item)
        place = 0
    value, span.ahead[place] = span.ahead[place], None
    return ((value,) if span.bare else value), _NO_KEYWORDS
