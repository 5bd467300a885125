"""The lane for threads: how a worker is put together whose calls run in native threads, and what
the shared half asks of it.

Thread: main runs no call but the initializer: it reads, beats, stops calls whose time is up, and
has an eye on the runners. Other methods than :meth:`ThreadLane.set_up`,
:meth:`~ThreadLane.serve` and :meth:`~ThreadLane.look` also run on the helper thread.
Guarantees: as :mod:`hybridexec.worker.lane` says.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from functools import cache
from multiprocessing import process
from typing import TYPE_CHECKING

from ...wire.contract import Boot
from ...wire.page import StatusPage
from .. import atfork, forked, stacks
from ..boot import import_all
from ..functions import Functions
from ..inbox import Inbox
from ..outbox import Outbox
from ..vitals import BEAT_SECONDS
from . import handlers
from .loop import Loop
from .runners import Runners

if TYPE_CHECKING:
    from ...wire.messages import StackGroup

new_lock = threading.RLock


def prepare(boot: Boot) -> None:
    """The process is as it should be, but for what is to be imported, if it was forked."""
    import_all(boot.preload)


@cache
def _loop() -> Loop:
    return Loop()


def loop(factory: Callable[[], object] | None = None) -> Loop:
    """The main thread's, whatever ``factory`` would make."""
    return _loop()


class ThreadLane:
    """Runs each call in a thread."""

    def __init__(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        call_helper: Callable[[], None],
    ) -> None:
        """The arguments are those of :meth:`.Kind.make`."""
        self._inbox = inbox
        self._outbox = outbox
        self._loop = _loop()
        self._runners = Runners(page, inbox, functions, outbox, call_helper, self._loop)
        #: As :attr:`.Lane.calling`.
        self.calling = self._runners.calling
        self._woken = self._stopping = False
        stacks.dump_all_threads(page.log_fd)
        atfork.be_first()
        atfork.react_with(self._let_go)

    def _let_go(self) -> None:
        """In a child that a call, or the initializer, has forked."""
        self._outbox.let_go()
        self._runners.let_go()
        # Those of other calls are not the child's, which would end them when it exits.
        process._children.clear()  # type: ignore[attr-defined]  # private

    # -- main -----------------------------------------------------------------------------------

    def set_up(
        self, initialize: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> bool:
        """As :meth:`.Lane.set_up`: on the main thread, the only one that may set signal handlers,
        for instance. The context that it leaves is the one each call starts from."""
        self._runners.context = context = contextvars.copy_context()
        try:
            context.run(initialize)
        except BaseException as error:
            if self._runners.forked:
                forked.end(error)
            context.run(failed, error)
            return False
        if self._runners.forked:
            forked.end(None)
        handlers.guard()
        return True

    def serve(self, calls_fd: int, on_readable: Callable[[], None]) -> None:
        """As :meth:`.Lane.serve`."""
        self._loop.io(calls_fd, 1).start(on_readable)
        self._beat()
        self.look()
        while not self._stopping:
            self._loop.turn()
            if self._woken:
                self._woken = False
                self.look()
            self._runners.come_round()
        self._runners.feed.end()

    def _beat(self) -> None:
        self._runners.vitals.beat()
        self._runners.watch_times()
        self._loop.timer(BEAT_SECONDS).start(self._beat)

    def look(self) -> None:
        """As :meth:`.Lane.look`."""
        self._inbox.forget_dropped()
        self._runners.look()

    # -- who reads the call pipe ----------------------------------------------------------------

    def cancel(self, calls: list[int], running: bool) -> None:
        """As :meth:`.Lane.cancel`."""
        self._runners.stops.cancel(calls, running)

    def more(self, call: int, fetched: int) -> None:
        """As :meth:`.Lane.more`."""
        if self._runners.sources is not None:
            self._runners.sources.more(call, fetched)

    def expire(self, call: int) -> None:
        """As :meth:`.Lane.expire`."""
        self._runners.stops.expire(call)

    def stop(self) -> None:
        """As :meth:`.Lane.stop`."""
        self._stopping = True

    def where(self) -> tuple[int, str]:
        """As :meth:`.Lane.where`: no call keeps the main thread."""
        return 0, ""

    def stacks(self) -> tuple[int, list[StackGroup], int]:
        """As :meth:`.Lane.stacks`."""
        return self._runners.stacks()

    # -- the helper thread ----------------------------------------------------------------------

    def wake(self) -> None:
        """As :meth:`.Lane.wake`."""
        self._woken = True
        self._loop.wake()

    def end_turn(self) -> None:
        """As :meth:`.Lane.end_turn`: no call keeps the main thread."""

    @property
    def is_stopping(self) -> bool:
        """As :attr:`.Lane.is_stopping`: who reads stops a call itself."""
        return False

    def insist(self) -> bool:
        """As :meth:`.Lane.insist`."""
        return False


make = ThreadLane
