"""``Pool``: ``multiprocessing.Pool``'s interface, over a ``HybridExecutor``.

Thread: callers' threads; what else there is, is in :mod:`hybridexec.pool_threads`.
Guarantees: every result becomes ready, whatever happens to workers, and to the pool. Importing this
module in a worker imports nothing of multiprocessing (:mod:`hybridexec.base`).

A pool is RUN until it is closed (CLOSE: what was asked for is done) or terminated (TERMINATE: what
has not ended is dropped). A closed one may be terminated; nothing leads back.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from . import checks, native
from .pool_calls import CLOSE, INIT, RUN, TERMINATE, PoolCalls

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from .executor import HybridExecutor

#: How long, in seconds, :attr:`Pool._pool` waits, and how often it looks.
_START_PATIENCE, _START_POLL = 30.0, 0.005

#: The executor's names for what has another name here.
_OTHER_NAMES = {
    "max_workers": "processes",
    "mp_context": "context",
    "max_tasks_per_child": "maxtasksperchild",
}


class Pool(PoolCalls):
    """Runs calls in worker processes, through ``multiprocessing.Pool``'s methods.

    A drop-in replacement for ``multiprocessing.Pool``. The workers are those of a
    :class:`HybridExecutor`, and are started at once, as that pool's are. A pool that is collected
    while it is running warns; its calls go on. At its exit, the interpreter terminates it.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        concurrency: int = 1,
        **options: Any,
    ) -> None:
        """
        Args:
            processes: number of worker processes; by default one per usable CPU.
            initializer: called with ``initargs`` in each worker before it runs calls. If it fails,
                all calls do, with :class:`ExecutorBroken`.
            initargs: arguments for the initializer; may hold multiprocessing locks and queues.
            maxtasksperchild: calls, and so items, a worker runs before a new one takes its place.
            context: a multiprocessing context, of which the start method counts: "forkserver"
                (the default), "spawn" or "fork".
            concurrency: calls that run at once in each worker. With 1, at most ``processes`` calls
                run at once, and none shares a worker's globals with another meanwhile, which is
                what programs count on that were made for multiprocessing's pool. More suits calls
                that wait.
            options: further arguments of :class:`HybridExecutor`, by name.

        Warns:
            ResourceWarning: later, if the pool is collected and was neither closed nor terminated.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        from .executor import HybridExecutor
        from .parent import lifecycle
        from .pool_threads import CallbackThread, Feeders

        if processes is not None:
            checks.processes(processes)
        checks.maxtasksperchild(maxtasksperchild, _is_fork(context))
        if known := options.keys() & _OTHER_NAMES.keys():
            name = min(known)
            raise TypeError(f"a Pool has no argument {name!r}; it is called {_OTHER_NAMES[name]!r}")
        executor = HybridExecutor(
            processes,
            context,
            initializer,
            tuple(initargs) if isinstance(initargs, Iterable) else initargs,
            max_tasks_per_child=maxtasksperchild,
            concurrency=concurrency,
            **options,
        )
        self._processes: int = executor._assembly.plan.max_workers
        self._slots = self._processes * concurrency
        self._executor = executor
        self._feeders = Feeders()
        self._callbacks = CallbackThread()
        self._begun = False
        self._repopulate_pool()
        lifecycle.let_go_at_exit(executor._engine)
        self._state = RUN

    # -- the pool itself --------------------------------------------------------------------------

    @property
    def executor(self) -> HybridExecutor:
        """The executor whose workers these are: for ``stats()``, ``options()`` and all else that
        multiprocessing's pool does not have."""
        return self._executor

    @property
    def busy(self) -> int:
        """How many slots have a call, or are about to: the calls that have not ended, but no more
        than can run at once, which is ``processes`` times ``concurrency``.

        A call counts from when it is asked for, so this is 0 only when there is none. (The items
        that ``imap`` has not read yet are no calls.)
        """
        return min(self._executor._engine.unfinished(), self._slots)

    @property
    def idle(self) -> int:
        """How many more calls would run at once, without waiting for others: the slots that are not
        :attr:`busy`; 0 when the pool is not running."""
        return self._slots - self.busy if self._state == RUN else 0

    @property
    def _pool(self) -> list[Any]:
        """The worker processes, as in multiprocessing's pool; waits for the first ones to start."""
        if not self._begun:
            native.wait(self._has_started, _START_PATIENCE)
            self._begun = True
        return list(self._executor._processes.values())

    def _has_started(self, seconds: float) -> bool:
        executor = self._executor
        if len(executor._processes) < self._processes and not (
            executor._shutdown_thread or executor._broken
        ):
            time.sleep(min(seconds, _START_POLL))
            return False
        return True

    def _repopulate_pool(self) -> None:
        self._executor._launch_processes()

    def close(self) -> None:
        """Refuse new calls, finish those there are, then end the workers; without waiting."""
        if self._state == RUN:
            self._state = CLOSE
            executor = self._executor
            if self._is_forked():
                return
            self._feeders.call_when_idle(lambda: executor.shutdown(wait=False))

    def terminate(self) -> None:
        """End the workers at once; calls that have not ended are dropped.

        Running calls are stopped where they wait, so that they clean up; workers that have not
        ended a tenth of a second later get SIGTERM, and SIGKILL a second after that. Results that
        were still to come are a ``concurrent.futures.CancelledError``; their callbacks are not
        called.
        """
        from concurrent.futures import CancelledError

        from .parent import lifecycle

        self._state = TERMINATE
        if self._is_forked():
            return
        self._callbacks.stop()
        self._feeders.stop(CancelledError())
        lifecycle.terminate(self._executor._engine)

    def join(self) -> None:
        """Wait until all calls have ended, their callbacks have returned, and the workers are gone.

        Raises:
            ValueError: the pool is still running: :meth:`close` or :meth:`terminate` it first.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running: close() or terminate() it first")
        if self._is_forked():
            return
        if self._state == CLOSE:
            self._feeders.join()
        self._executor.shutdown()
        self._callbacks.join()

    def _is_forked(self) -> bool:
        """Whether this process is a fork of the one that made the pool: workers and threads are
        that one's, and locks may have been held."""
        return self._executor._engine.inert

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Terminate the pool, as multiprocessing's does."""
        self.terminate()

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError(
            "pool objects cannot be passed between processes or pickled: leave the pool out of "
            "what calls are given; a call that needs one makes its own"
        )

    def __repr__(self) -> str:
        kind = type(self)
        size = 0 if self._state == INIT else self._processes
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={size}>"

    # multiprocessing.pool's way to keep what is needed while the interpreter goes down.
    def __del__(self, _warn: Callable[..., None] = warnings.warn, _run: str = RUN) -> None:
        if self._state == _run:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)


def _is_fork(context: Any) -> bool:
    return getattr(context, "get_start_method", str)() == "fork"
