"""Assemble the parent's half of an executor when it is first needed.

Thread: the one that makes the executor, which takes next to no time; then the one that makes its
first call.
Guarantees: no process is started before the first call.

The first result has to wait for the fork server, which imports gevent. So the server is launched
first, and gets ready while this process imports the rest of its own half, and multiprocessing.
Nothing that takes long may be imported at the top of this module, or of those it imports there.
"""

# Without `annotations` from `__future__`: a NamedTuple would compile each of its own, see
# tests/test_layers.py.
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import options

# Imported early, because it registers for the interpreter's exit, during which that fails.
from . import lifecycle  # noqa: F401  # it registers itself
from .launch.beginning import Beginning

if TYPE_CHECKING:
    from .client.counted import Watcher
    from .client.submission import Submission
    from .engine.companion import Companion
    from .engine.engine import Engine
    from .engine.link import Launcher
    from .engine.watched import Watched
    from .launch.fork_server import ForkServer
    from .pool.pool import Pool

#: The least default bound of a stream.
_MIN_BUFFERSIZE = 2048

# A reentrant one: a signal handler that interrupts its holder may shut the executor down.
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # it may have been held


os.register_at_fork(after_in_child=_after_fork_in_child)


class Plan(NamedTuple):
    """What an executor was asked to be, checked. See ``HybridExecutor``."""

    method: str
    max_workers: int
    concurrency: int
    threads: int
    beginning: Beginning
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    timeout_grace: float
    max_pending: int | None
    hub_lag_warning: float | None
    monkey_patch: bool | Mapping[str, bool]
    preload: tuple[str, ...]
    #: The script's path, which Python forgets when its last line has run.
    main_file: str | None
    main_by_value: bool
    worker_logs: bool
    idle_timeout: float | None
    #: ``settings.Settings``, if anything was asked for.
    settings: Any
    #: Makes what is there for as long as the engine runs, if anything is to be.
    companion: "Callable[[Watched], Companion] | None"

    @property
    def slots(self) -> dict[str, int]:
        """How many calls a worker runs at once, by lane."""
        return {
            lane: self.threads if lane == "thread" else self.concurrency for lane in options.LANES
        }


class Assembly:
    """The parts of one executor, as far as they exist."""

    def __init__(self, plan: Plan) -> None:
        self.plan: Plan = plan
        self._engine: Engine | None = None
        #: The way in for calls; None before there was one.
        self.submission: Submission | None = None
        #: What shows the progress of calls.
        self.reporters: weakref.WeakSet[Watcher] = weakref.WeakSet()

    def open(self, lane: str) -> "Submission":
        """The way in for calls, made if it has to be; the first one is of that lane."""
        self._complete(lane)
        assert self.submission is not None
        return self.submission

    @property
    def engine(self) -> "Engine":
        """The engine, made if it has to be."""
        self._complete(None)
        assert self._engine is not None
        return self._engine

    @property
    def watched(self) -> "Watched":
        """The executor, for those who show it."""
        return self._watched(self.engine)

    def _watched(self, engine: "Engine") -> "Watched":
        from .engine.watched import Watched

        return Watched(engine, self.plan.slots)

    @property
    def usable(self) -> bool:
        """Whether calls may be submitted: it was neither shut down nor has it broken."""
        engine = self._engine
        return engine is None or (engine.closed is None and engine.broken is None)

    def resize(self, max_workers: int) -> None:
        """From now on, there are so many workers at most; see :meth:`.Pool.resize`."""
        with _lock:
            self.plan = self.plan._replace(max_workers=max_workers)
            if self._engine is not None and self.submission is not None:
                self._engine.resize(max_workers)
                self.submission.buffersize = _buffersize(self.plan)

    def abandon(self) -> None:
        """Shut down because nobody is left to submit; safe in a finalizer."""
        if self._engine is not None:
            self._engine.abandon()

    def end_reports(self) -> None:
        """Show for the last time how far calls have come, if no more can end."""
        if self._engine is not None and self._engine.ended.is_set():
            for reporter in list(self.reporters):
                reporter.end()

    def _complete(self, lane: str | None) -> None:
        if self.submission is not None:
            return
        with _lock:
            if self.submission is not None:
                return
            server = self._launch(lane) if lane is not None else None
            try:
                engine, submission = self._parts(lane or options.LANES[0], server)
                if self.plan.companion is not None:
                    engine.companion = self.plan.companion(self._watched(engine))
            except BaseException:
                if server is not None:
                    server.close()
                raise
            if self.submission is None:
                self._engine, self.submission = engine, submission
            else:  # while we were at it, a signal handler has had them made
                engine.shutdown(True)

    def _launch(self, lane: str) -> "ForkServer | None":
        """The fork server, if workers come from one and it can be started."""
        from .launch.fork_server import ForkServer

        if self.plan.method != "forkserver":
            return None
        try:
            return ForkServer(*self._boot(lane))
        except (OSError, RuntimeError):
            return None  # it is tried again for the first worker, whose failure tells why

    def _boot(self, lane: str) -> "tuple[Any, ...]":
        """The fields of ``Boot``, whose module takes too long to import before the server's
        launch."""
        plan = self.plan
        return lane, plan.monkey_patch, plan.preload, plan.main_by_value, plan.settings

    def _parts(self, lane: str, server: "ForkServer | None") -> "tuple[Engine, Submission]":
        from .. import native
        from ..wire import payload, prompt
        from .client.submission import Submission
        from .engine.engine import Engine
        from .pool.pool import Pool
        from .pool.watchdog import Watchdog

        plan = self.plan
        native.keep_freed_memory()
        payload.set_main_by_value(plan.main_by_value)
        prompt.remember(plan.main_file)
        pool = Pool(
            plan.max_workers,
            plan.slots,
            budget=plan.max_tasks_per_child,
            memory=plan.max_memory_per_child,
            grace=plan.timeout_grace,
            all_at_once=plan.method == "fork",
            idle_timeout=plan.idle_timeout,
            patient=plan.beginning.worker_state is not None,
        )
        lag = plan.hub_lag_warning
        watchdog = None if lag is None else Watchdog(lag)
        engine = Engine(pool, self._launcher(pool, lane, server), watchdog)
        return engine, Submission(engine, plan.max_pending, _buffersize(plan))

    def _launcher(self, pool: "Pool", lane: str, server: "ForkServer | None") -> "Launcher":
        """What starts workers."""
        from ..wire.contract import Boot
        from ..wire.log_tree import describe
        from .engine.connection import Connection
        from .launch.launcher import Launcher

        plan = self.plan
        return Launcher(
            plan.method,
            Boot(*self._boot(lane)),
            plan.slots,
            plan.beginning,
            plan.main_file,
            Connection,
            server,
            describe if plan.worker_logs else None,
            pool.place_of,
        )


def _buffersize(plan: Plan) -> int:
    """Enough to keep every slot busy while results are on their way, for any size of executor."""
    return max(2 * plan.max_workers * max(plan.slots.values()), _MIN_BUFFERSIZE)
