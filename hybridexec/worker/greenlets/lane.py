"""The lane for greenlets: how a gevent worker is put together, and what the shared half asks of it.

Thread: the main thread, which is the hub's; other methods than :meth:`GreenletLane.set_up`,
:meth:`~GreenletLane.serve` and :meth:`~GreenletLane.look` also run on the helper thread.
Guarantees: as :mod:`hybridexec.worker.lane` says.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import gevent.lock

from ...wire.contract import Boot
from ...wire.page import StatusPage
from ..boot import import_all
from ..functions import Functions
from ..inbox import Inbox
from ..outbox import Outbox
from . import errors, forks, loops, patching, releases, timeouts, waits
from .alarms import Alarms
from .callers import Callers
from .runners import Runners
from .signals import Signals

if TYPE_CHECKING:
    from ...wire.messages import StackGroup
    from ..lane import Loop

new_lock = gevent.lock.RLock


def prepare(boot: Boot) -> None:
    """Patch the process, and have the hub, when it is made, be a lean one."""
    # All but a forked process has booted; then neither of the first two changes anything.
    patching.patch(boot.monkey_patch, copied=True)
    import_all(boot.preload)
    patching.prepare_hub()
    if boot.settings is not None:
        from . import resolving  # few need it

        resolving.choose(boot.settings)
    waits.install()


def loop(factory: Callable[[], object] | None = None) -> Loop:
    """The hub's, whatever ``factory`` would make."""
    hub: Any = gevent.get_hub()
    found: Loop = hub.loop
    return found


class GreenletLane:
    """Runs each call in a greenlet."""

    def __init__(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        call_helper: Callable[[], None],
    ) -> None:
        """The arguments are those of :meth:`.Kind.make`."""
        self._runners = runners = Runners(
            page, inbox, functions, outbox.put, outbox.put_first, outbox.put_late, call_helper
        )
        self._feed, self._stops, self._service = runners.feed, runners.stops, runners.service
        self._put = outbox.put
        functions.streaming = self._streaming
        #: As :attr:`.Lane.calling`.
        self.calling = Callers(
            runners.call_of, runners.stops.call_for, runners.runner_of, Runners.run_code
        ).current
        # The context that each call starts from.
        self._context = contextvars.Context()
        timeouts.install(runners.call_of, runners.feed.wear, Runners.run_code)
        forks.install(runners, outbox)
        errors.install()
        releases.install()
        signals = Signals(runners, page.running)
        signals.install()
        Alarms(signals).install()

    def set_up(
        self, initialize: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> bool:
        """As :meth:`.Lane.set_up`: in a greenlet of its own, as calls are. What it stores per
        thread stays apart from the hub's, and its context is the one each call starts from."""
        self._context = contextvars.copy_context()
        setup = gevent.spawn(self._context.run, _set_up, initialize, failed)
        loops.install(self._runners.call_of, setup)
        setup.join()
        return setup.value is True

    def serve(self, calls_fd: int, on_readable: Callable[[], None]) -> None:
        """As :meth:`.Lane.serve`."""
        self._runners.serve(self._context, calls_fd, on_readable)

    def look(self) -> None:
        """As :meth:`.Lane.look`."""
        self._runners.look()

    def cancel(self, calls: list[int], running: bool) -> None:
        """As :meth:`.Lane.cancel`."""
        self._stops.cancel(calls, running)

    def more(self, call: int, fetched: int) -> None:
        """As :meth:`.Lane.more`."""
        if self._runners.sources is not None:
            self._runners.sources.more(call, fetched)

    def expire(self, call: int) -> None:
        """As :meth:`.Lane.expire`."""
        self._stops.expire(call)

    def stop(self) -> None:
        """As :meth:`.Lane.stop`."""
        self._service.stop()

    def where(self) -> tuple[int, str]:
        """As :meth:`.Lane.where`."""
        return self._runners.where()

    def stacks(self) -> tuple[int, list[StackGroup], int]:
        """As :meth:`.Lane.stacks`."""
        return self._runners.stacks()

    def wake(self) -> None:
        """As :meth:`.Lane.wake`."""
        self._service.wake()

    def end_turn(self) -> None:
        """As :meth:`.Lane.end_turn`."""
        self._feed.turn_over = True

    @property
    def is_stopping(self) -> bool:
        """As :attr:`.Lane.is_stopping`."""
        return self._stops.pending

    def insist(self) -> bool:
        """As :meth:`.Lane.insist`."""
        return self._stops.insist()

    def _streaming(self, function: Callable[..., Any], window: int) -> Callable[..., Any]:
        """As :attr:`.Functions.streaming`."""
        from .. import sources  # not before there is a streaming call: workers start sooner

        runners = self._runners
        if runners.sources is None:
            runners.sources = sources.Sources(
                lambda: runners.call_of(gevent.getcurrent()),
                self._put,
                gevent.event.Event,
                self._stops.raised,
            )
        return sources.install(function, partial(sources.Streaming, window, runners.sources))


make = GreenletLane


def _set_up(initialize: Callable[[], object], failed: Callable[[BaseException], object]) -> bool:
    try:
        initialize()
    except BaseException as error:
        forks.leave(error)
        failed(error)
        return False
    forks.leave()
    return True
