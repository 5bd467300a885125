"""Takes calls from the inbox and runs them in threads.

Thread: the runners, which :mod:`.feed` keeps, but for what is said otherwise.
Guarantees: a call's exception, whatever it is, becomes that call's result and affects no other;
calls are taken in the order in which they were sent, one at a time; each runs in a context of its
own.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from ... import native
from ...wire import messages
from ...wire.page import CURRENT, SHARED, StatusPage, slot_index
from ...wire.wording import call_text, function_name
from .. import failures, forked, stacks
from ..functions import Functions
from ..inbox import Inbox, Job
from ..outbox import Outbox
from ..rows import BY_ITSELF, Entry
from ..vitals import BEAT_SECONDS, Vitals
from .answers import PATIENCE as _PATIENCE
from .answers import Answer, Answers, pack
from .feed import Feed, Runner
from .loop import Loop
from .stops import StopCall, Stopped, Stops
from .taking import Taken, Taking

if TYPE_CHECKING:
    from ..sources import Sources

#: A call's time does not begin before its function is there, but after so many seconds: importing
#: its module may take long, and must not take for ever.
LOAD_SECONDS = 60.0

_monotonic = native.monotonic


class Runners:
    """Runs calls, each in a thread."""

    def __init__(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        call_helper: Callable[[], None],
        loop: Loop,
    ) -> None:
        """The arguments are those of :meth:`.Kind.make`, and the main thread's loop."""
        self._words, self._times = page.words, page.times
        self._words[CURRENT] = SHARED
        self._outbox = outbox
        self._call_helper = call_helper
        self._load, self._forgotten = functions.load, functions.forgotten
        self._loop = loop
        self._taking = Taking(page, inbox, self._tell)
        # Held to take a call, and to count those that have run.
        self._lock = threading.Lock()
        self._news = False  # whether something must leave soon that is no result
        # When timed calls must be stopped, their ids, and when they began: those that have begun
        # since main looked; when it will look again; whether that is too late.
        self._timed: deque[tuple[float, int, float]] = deque()
        self._look_at = 0.0
        self._hurries = False
        self._by_ident: dict[int, Runner] = {}
        #: All threads of the process run calls, so its CPU is what calls use.
        self.vitals = Vitals(page, time.process_time)
        #: Stops running calls.
        self.stops = Stops(inbox, self._run_code, loop)
        #: Has runners take the calls there are.
        self.feed = Feed(page.slots, self._taking, loop, self.stops.running, self._serve)
        #: Those of streaming calls; None before there was one.
        self.sources: Sources | None = None
        functions.streaming = self._streaming
        #: The context that each call starts from.
        self.context = contextvars.Context()
        #: Whether this process is a child that a call has forked.
        self.forked = False

    # -- main -----------------------------------------------------------------------------------

    def look(self) -> None:
        """See to what the call pipe has brought."""
        if self.sources is not None:
            self.sources.look()
        self.feed.begin()
        if self._forgotten:
            self.feed.wake_one()

    def watch_times(self) -> None:
        """Have those of the timed calls that have begun, and not ended, stopped in time."""
        self._hurries = False
        self._look_at = _monotonic() + BEAT_SECONDS
        timed = self._timed
        while timed:
            due, call, began = timed.popleft()
            runner = self.stops.running.get(call)
            if runner is not None and runner.began == began:
                timer = self._loop.timer(due - _monotonic())
                timer.start(partial(self.stops.expire_run, call, began))

    def come_round(self) -> None:
        """The loop has come round."""
        if self._hurries:
            self.watch_times()
        if self.stops.held:
            self.stops.look()
        if self.sources is not None:
            self.sources.look()
        if self.feed.is_due:
            self.feed.begin()

    # -- in a runner ----------------------------------------------------------------------------

    def _serve(self, me: Runner) -> None:
        """A runner: take calls and run them, until it is to end."""
        me.ident = native.ident()
        self._by_ident[me.ident] = me
        answers = me.answers = Answers(self._outbox, self._call_helper)
        slot_id = slot_index(me.slot)
        feed, stops, taking = self.feed, self.stops, self._taking

        def begin(call: int) -> None:
            stops.running[call] = me
            me.call = call

        def end(call: int) -> None:
            me.call = 0
            stops.end(call)

        # Calls that have run since then, and for how long each had waited.
        count, since, waited = 0, 0.0, 0.0
        took_long = False  # the last of them
        while not (feed.ending or me.worn):
            now = _monotonic()
            with self._lock:
                taken = taking.take(begin, end)
                if count and (taken is None or took_long or now - since > _PATIENCE):
                    self.vitals.ran(count, waited, now - since, took_long)
                    count = 0
                if taken is not None:
                    feed.latest = now
            if taken is None:
                answers.send(now)
                self._forgotten.clear()
                feed.rest(me)
                continue
            if self._news:
                self._news = False
                answers.send(now)
            if not count:
                since, waited = now, now - taken.since
            count += 1
            me.taken, me.began = taken, now
            self._times[slot_id + 1] = now
            self._words[slot_id] = taken.call
            ended = self._run(me, slot_id, taken, answers.follows(taken.call))
            self._words[slot_id] = 0
            end(taken.call)
            now = feed.latest = _monotonic()
            took_long = now - me.began > _PATIENCE
            answers.add(taken.call, *ended, now - me.began if taken.job.timed else None, now)
            me.taken = taken = None
            del ended
        answers.send(_monotonic())
        del self._by_ident[me.ident]
        feed.retire(me)

    def _run(self, me: Runner, slot_id: int, taken: Taken, follows: bool) -> Answer:
        """Run a call; ``follows`` is whether its result may join the one before it."""
        stops, call, job = self.stops, taken.call, taken.job
        function = job.function
        value: Any = None
        answer: Answer | None = None
        stage = "call"
        try:
            try:
                stops.open(call, me)
                if function is None:
                    stage = "arguments"
                    self._times[slot_id + 1] = _monotonic() + LOAD_SECONDS
                    function = self._load(job)
                    me.began = self._times[slot_id + 1] = _monotonic()
                if job.timeout is not None:
                    self._begin_time(call, me.began, job.timeout)
                stage = "arguments"
                args, kwargs = taken.arguments()
                stage = "call"
                value = self.context.copy().run(function, *args, **kwargs)
                args = kwargs = None  # type: ignore[assignment]  # let go of
                if self.forked:
                    forked.end(None)
                stage = "result"
                answer = pack(value, job, follows)
            except BaseException as error:
                if self.forked:
                    forked.end(error)
                if stops.is_told(call, error):
                    answer = _stopped(error, job)
                else:
                    me.worn = not isinstance(error, Exception)
                    item = taken.described
                    answer = *failures.outcome(error, job, stage, function, item, value), BY_ITSELF
            me.worn = stops.close(call, me) or me.worn
        except Stopped as error:  # it came when the call was over, in code of ours
            me.worn = stops.close(call, me)
            if answer is None:
                answer = _stopped(error, job)
        assert answer is not None
        return answer

    #: What calls are called from.
    _run_code = _run.__code__

    def _begin_time(self, call: int, began: float, timeout: float) -> None:
        due = began + timeout
        self._timed.append((due, call, began))
        if due < self._look_at:  # the next beat would be too late
            self._hurries = True
            self._loop.wake()

    def _tell(self, entry: Entry) -> None:
        """Something must leave soon that is no result of a call that has run."""
        self._news = True
        self._outbox.add(entry)

    def _streaming(self, function: Callable[..., Any], window: int) -> Callable[..., Any]:
        """As :attr:`.Functions.streaming`."""
        from .. import sources  # not before there is a streaming call: workers start sooner

        if self.sources is None:
            self.sources = sources.Sources(
                lambda: self._by_ident[native.ident()].call,
                self._yield,
                partial(_Event, self._outbox.push),
                self.stops.raised,
            )
            self.stops.stir = self.sources.stir
        return sources.install(function, partial(sources.Streaming, window, self.sources))

    def _yield(self, entry: Entry) -> None:
        """The first of some items is there: they leave at once, or with others very soon."""
        self._by_ident[native.ident()].answers.yielded(entry)

    # -- any thread -----------------------------------------------------------------------------

    def calling(self) -> str:
        """As :attr:`.Lane.calling`."""
        me = self._by_ident.get(native.ident())
        taken = None if me is None else me.taken
        if taken is None or taken.job.function is None:
            return ""
        return call_text(function_name(taken.job.function), taken.described)

    def stacks(self) -> tuple[int, list[messages.StackGroup], int]:
        """As :meth:`.Lane.stacks`."""
        frames = sys._current_frames()
        found = []
        for runner in self.feed.runners:
            call, frame = runner.call, frames.get(runner.ident)
            if call and _is_in(frame, self._run_code):
                found.append((call, frame))
        return stacks.all_stacks(None, found, self._run_code, self.stops.running.__contains__)

    def let_go(self) -> None:
        """In a child of the process: take no calls, and keep the status page to itself."""
        self.forked = True
        words = memoryview(bytearray(self._words.nbytes))
        self._words, self._times = words.cast("q"), words.cast("d")
        self.vitals.let_go()
        if self.sources is not None:
            self.sources.let_go()


class _Event(threading.Event):
    """What a call waits for that yields: what it has yielded leaves before."""

    def __init__(self, push: Callable[[], None]) -> None:
        super().__init__()
        self._push = push

    def wait(self, timeout: float | None = None) -> bool:
        """Wait."""
        self._push()
        return super().wait(timeout)


def _stopped(error: BaseException, job: Job) -> Answer:
    """How a call has ended that was stopped."""
    if isinstance(error, StopCall):
        return messages.CANCELLED, None, BY_ITSELF
    return messages.TIMED_OUT, job.timeout, BY_ITSELF


def _is_in(frame: FrameType | None, code: CodeType) -> bool:
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None
