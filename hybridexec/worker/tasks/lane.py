"""The asynchronous lane: how a worker whose calls are tasks is put together, and what the shared
half asks of it.

Thread: the main thread, which runs the loop; other methods than :meth:`TaskLane.set_up`,
:meth:`~TaskLane.serve` and :meth:`~TaskLane.look` also run on the helper thread.
Guarantees: as :mod:`hybridexec.worker.lane` says.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from types import FrameType
from typing import TYPE_CHECKING, Any

from ... import native
from ...wire.contract import Boot
from ...wire.page import StatusPage
from .. import faults, stacks
from ..boot import import_all
from ..callers import Texts
from ..functions import Functions
from ..inbox import Inbox
from ..outbox import Outbox
from ..vitals import BEAT_SECONDS
from . import eager, forks, loops, places
from .answers import Answers
from .calls import Calls, calling
from .interrupts import Interrupts

if TYPE_CHECKING:
    from ...wire.messages import StackGroup
    from ..sources import Sources

new_lock = threading.RLock
loop = loops.make


def prepare(boot: Boot) -> None:
    """As :meth:`.Kind.prepare`."""
    loops.prepare()
    import_all(boot.preload)


class TaskLane:
    """Runs each call as a task of one loop."""

    def __init__(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        call_helper: Callable[[], None],
    ) -> None:
        """The arguments are those of :meth:`.Kind.make`."""
        self._loop = loops.current()
        # Ours, in which nothing of a call's is to be found.
        self._context = contextvars.Context()
        self._forgotten = functions.forgotten
        at_end_of_turn = partial(self._loop.call_soon, context=self._context)
        answers = Answers(outbox.put, outbox.put_first, outbox.put_late, at_end_of_turn)
        start = eager.starter(self._loop)
        self._answers = answers
        self._calls = calls = Calls(self._loop, page, inbox, functions, answers, outbox.put, start)
        self._stops = calls.stops
        self._thread = native.ident()
        self._interrupts = Interrupts(self._stops, calling.get, calls.runs, Calls.run_code)
        self._texts = Texts(Calls.run_code)
        self._woken = False
        self._stopping = False
        self._outbox = outbox
        # Those of streaming calls; None before there was one.
        self._sources: Sources | None = None
        functions.streaming = self._streaming
        forks.install(
            self._let_go,
            frozenset({Calls.run_code, TaskLane._initialize.__code__}),
            frozenset({TaskLane.serve.__code__, TaskLane.set_up.__code__}),
        )

    # -- main thread --------------------------------------------------------------------------

    def set_up(
        self, initialize: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> bool:
        """As :meth:`.Lane.set_up`: in a task, whose context is the one each call starts from. What
        the initializer returns is awaited, if it can be."""
        context = self._calls.context = contextvars.copy_context()
        task = self._loop.create_task(self._initialize(initialize, failed), context=context)
        return self._loop.run_until_complete(task)

    async def _initialize(
        self, initialize: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> bool:
        try:
            value = initialize()
            if isawaitable(value):
                await value
        except BaseException as error:
            forks.leave(error)
            failed(error)
            return False
        forks.leave()
        return True

    def serve(self, calls_fd: int, on_readable: Callable[[], None]) -> None:
        """As :meth:`.Lane.serve`."""
        loop = self._loop
        self._context.run(loop.add_reader, calls_fd, partial(faults.guard, on_readable))
        self._beat()
        loop.call_soon(self._look_safely, context=self._context)  # it may have been told before
        while not self._stopping:
            try:
                loop.run_forever()
            except BaseException as error:
                if loop.is_closed():
                    faults.end(error)  # a call has closed it: there is no way on
                # SystemExit or KeyboardInterrupt in a task that a call has started: it ends that,
                # as in a thread.
                if not isinstance(error, SystemExit):
                    traceback.print_exc()
        loop.remove_reader(calls_fd)
        self._woken = True  # so that nobody wakes a loop that is closed
        loops.close()

    def look(self) -> None:
        """As :meth:`.Lane.look`."""
        self._woken = False
        self._interrupts.forget()
        self._answers.begin_turn()  # what was brought just now begins a turn
        self._stops.look()
        if self._sources is not None:
            self._sources.look()
        if self._forgotten:
            self._loop.call_soon(self._forgotten.clear, context=self._context)
        if self._stopping:
            self._loop.stop()
        else:
            self._calls.feed()

    def _look_safely(self) -> None:
        faults.guard(self.look)

    def _beat(self) -> None:
        self._calls.vitals.beat()
        self._loop.call_later(BEAT_SECONDS, self._beat, context=self._context)

    # -- who reads the call pipe --------------------------------------------------------------

    def cancel(self, calls: list[int], running: bool) -> None:
        """As :meth:`.Lane.cancel`."""
        self._stops.cancel(calls, running)
        self._interrupt()

    def expire(self, call: int) -> None:
        """As :meth:`.Lane.expire`."""
        self._stops.expire(call)
        self._interrupt()

    def more(self, call: int, fetched: int) -> None:
        """As :meth:`.Lane.more`."""
        if self._sources is not None:
            self._sources.more(call, fetched)

    def stop(self) -> None:
        """As :meth:`.Lane.stop`."""
        self._stopping = True

    def where(self) -> tuple[int, str]:
        """As :meth:`.Lane.where`."""
        if native.ident() == self._thread:
            return 0, ""
        return stacks.whereabouts(self._thread, Calls.run_code, self._calls.runs)

    def stacks(self) -> tuple[int, list[StackGroup], int]:
        """As :meth:`.Lane.stacks`."""
        code = Calls.run_code
        waiting = [(call, partial(places.of, task, code)) for call, task in self._running()]
        busy = None if native.ident() == self._thread else self._thread
        current, groups, more = stacks.all_stacks(busy, waiting, code, self._calls.runs)
        # A loop that waits is no news.
        told = [group for group in groups if any(group[1]) or not _is_loop(group[2])]
        return current, told, more

    def _running(self) -> list[tuple[int, asyncio.Task[None]]]:
        return list(self._calls.tasks.items())

    # -- any thread ---------------------------------------------------------------------------

    def calling(self) -> str:
        """As :attr:`.Lane.calling`."""
        call = calling.get()
        return self._texts.text(call, partial(self._frame_of, call)) if call else ""

    def _frame_of(self, call: int) -> FrameType | None:
        task = self._calls.tasks.get(call)
        coroutine = None if task is None else task.get_coro()
        found: FrameType | None = getattr(coroutine, "cr_frame", None)
        return sys._getframe() if found is None else found

    # -- the helper thread --------------------------------------------------------------------

    def wake(self) -> None:
        """As :meth:`.Lane.wake`."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._look_safely, context=self._context)

    def end_turn(self) -> None:
        """As :meth:`.Lane.end_turn`."""
        self._calls.turn_over = True

    @property
    def is_stopping(self) -> bool:
        """As :attr:`.Lane.is_stopping`."""
        return self._stops.pending

    def insist(self) -> bool:
        """As :meth:`.Lane.insist`."""
        if self._stops.pending:
            self._interrupts.ask()
        return self._stops.pending

    def _interrupt(self) -> None:
        """Something is to be stopped: if it keeps the loop, that is the helper thread's affair."""
        if native.ident() != self._thread:
            self._interrupts.ask()

    # -- in a child of the process ------------------------------------------------------------

    def _let_go(self) -> None:
        self._outbox.let_go()
        self._calls.let_go()
        if self._sources is not None:
            self._sources.let_go()

    # -- in calls -----------------------------------------------------------------------------

    def _streaming(self, function: Callable[..., Any], window: int) -> Callable[..., Any]:
        """As :attr:`.Functions.streaming`."""
        from .. import sources  # not before there is a streaming call: workers start sooner
        from .streaming import AsyncStreaming

        if self._sources is None:
            self._sources = sources.Sources(
                calling.get, self._outbox.put, asyncio.Event, self._stops.raised
            )
        return sources.install(function, partial(AsyncStreaming, window, self._sources))


make = TaskLane


def _is_loop(frames: list[stacks.Place]) -> bool:
    """Whether these are the loop's own, which waits or sees to something."""
    return not frames or frames[-1][0].endswith(("selectors.py", "base_events.py", "lane.py"))
