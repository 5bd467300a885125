"""``HybridExecutor``: checks arguments and delegates.

The work is done by :mod:`hybridexec.parent.engine.engine`, which is made when it is first needed
(:mod:`hybridexec.parent.assembly`).

Thread: callers' threads.

The class derives from ``ProcessPoolExecutor``, because programs test for that class, but shares
only its public methods: for its private attributes, see :mod:`hybridexec.privates`. Importing this
module imports the base, and multiprocessing with it, except in a worker (:mod:`hybridexec.base`);
importing the package does not.
"""

from __future__ import annotations

import signal
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from . import checks, options
from .options import CallOptions
from .watchable import Watchable

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from .parent.assembly import Assembly, Plan
    from .parent.engine.companion import Companion
    from .parent.engine.engine import Engine
    from .parent.engine.watched import Watched
    from .settings import Affinity, Resolver, Settings

_MISSING_GUARD = (
    "a HybridExecutor or a Pool was made while a worker process imports this script. Put the code "
    'that makes and uses it under  if __name__ == "__main__":  - a worker imports the script to '
    "find its functions, and must not run it again"
)


class ExecutorView(Watchable):
    """An executor with options of its own for the calls made through it.

    Made by ``options()``. It shares workers, limits and shutdown with the executor it came from.
    """

    def __init__(self, executor: HybridExecutor, options: CallOptions) -> None:
        self._executor = executor
        self._assembly = executor._assembly
        self._options = options
        if options.propagate:
            from .parent.client.carrying import Carrier

            self._assembly = cast("Assembly", Carrier(self._assembly, options.propagate))

    def _view(self, options: CallOptions) -> ExecutorView:
        return ExecutorView(self._executor, options)

    def cancel_all(self) -> None:
        """Cancel all calls of the executor this is a view of, those made otherwise too."""
        self._executor.cancel_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down the executor this is a view of."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)

    def terminate_workers(self) -> None:
        """End the workers of the executor this is a view of."""
        self._executor.terminate_workers()

    def kill_workers(self) -> None:
        """End the workers of the executor this is a view of, by force."""
        self._executor.kill_workers()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.__exit__(kind, error, trace)


class HybridExecutor(Watchable):
    """Runs calls in worker processes, and many at once in each.

    A drop-in replacement for ``concurrent.futures.ProcessPoolExecutor``. Each worker is patched
    with gevent before it imports anything of the user's, and runs its calls in a pool of greenlets:
    a call that waits (for a socket, for ``time.sleep``) lets others run. Calls of ``async def``
    functions, and those for which ``options(lane=...)`` says so, run in workers of other kinds: as
    tasks of an asyncio loop, or in native threads.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        concurrency: int = 100,
        threads: int = 20,
        loop_factory: Callable[[], object] | None = None,
        max_memory_per_child: int | None = None,
        on_worker_loss: Literal["fail", "retry"] = "fail",
        timeout_grace: float = 0.75,
        max_pending: int | None = None,
        hub_lag_warning: float | None = 5.0,
        monkey_patch: bool | Mapping[str, bool] = True,
        preload: Iterable[str] = (),
        worker_logs: bool = True,
        monitor: bool | None = None,
        idle_timeout: float | None = None,
        resolver: Resolver | None = None,
        dns_threads: int | None = None,
        nice: int | None = None,
        affinity: Affinity | None = None,
        threadpool_limits: int | Mapping[str, int] | None = None,
        worker_state: Callable[[], object] | None = None,
    ) -> None:
        """
        Args:
            max_workers: number of worker processes of each lane; by default one per usable CPU.
                They are started as calls of that lane come, one per unfinished call.
            mp_context: a multiprocessing context, of which the start method counts: "forkserver"
                (the default), "spawn" or "fork".
            initializer: called with ``initargs`` in each worker before it runs calls. If it fails,
                the executor is broken.
            initargs: arguments for the initializer; may hold multiprocessing locks and queues.
            max_tasks_per_child: calls a worker runs before a new one takes its place.
            concurrency: calls that run at once in each worker for greenlets, and in each for
                coroutines. 1 gives ProcessPoolExecutor's meaning of ``max_workers``.
            threads: calls that run at once in each worker for native threads; see
                ``options(lane="thread")``.
            loop_factory: makes the event loop of a worker for coroutines, as ``asyncio.Runner``'s
                argument of that name does; by default uvloop's if that is installed, else asyncio's
                own. Workers call it, so they must be able to unpickle it.
            max_memory_per_child: bytes of RAM (resident) at which a worker takes no more calls and
                a new one takes its place. Measured twice a second.
            on_worker_loss: what happens to the calls that a worker was running when it died: "fail"
                ends them with :class:`WorkerLost`; "retry" runs them again, apart from all others,
                until it is known which of them kills its worker. **A call may then run more than
                once**, so it must be safe to repeat.
            timeout_grace: seconds that a call may go on after its ``timeout``, to clean up. If it
                has not ended by then, its worker is killed. A cancelled call without a timeout that
                goes on for so long is logged; in the thread lane, its worker is replaced, and is
                killed when its other calls have ended.
            max_pending: number of unfinished calls at which ``submit`` waits until one ends; None
                for no limit. A submit from a future's callback never waits.
            hub_lag_warning: seconds for which a call may keep its worker's other calls from
                running, because it computes or blocks in code that gevent cannot patch, before a
                warning is logged, with the call's name and stack; None for no such warnings. There
                are none of workers that run one call at once.
            monkey_patch: whether workers for greenlets are patched by gevent, as no others are; a
                mapping gives the switches of ``gevent.monkey.patch_all``.
            preload: names of modules to import, after patching, before workers are forked from the
                fork server of their lane (with other start methods: in each worker).
            worker_logs: whether what is logged in workers is handled here, as if it had been logged
                in this process: records that a handler of this process would take are sent to it.
            monitor: whether ``hybridexec top`` and ``hybridexec stacks`` may look at it: other
                processes of the same user. By default they may if the environment variable
                ``HYBRIDEXEC_MONITOR`` is 1.
            idle_timeout: seconds after which a worker that has had no calls ends; None if it never
                does. The next call starts one again.
            resolver: what looks up names of hosts in workers for greenlets, in gevent's words:
                "thread" (its default: the system's functions, on threads), "ares", "dnspython", or
                "block". None leaves it to gevent, and to ``GEVENT_RESOLVER``.
            dns_threads: how many names a worker looks up at once, with "thread"; None for gevent's
                10. These threads are those of ``gevent.get_hub().threadpool``.
            nice: what is added to the workers' niceness: with more than 0 they get less CPU time
                than others who want it.
            affinity: the CPUs that workers may use, as mpire's ``cpu_ids``: a list with, for each
                worker, a CPU or a list of CPUs, or with one entry for all of them; or "auto" for
                one CPU each, in turns. A worker that replaces another gets the CPUs of that.
            threadpool_limits: how many threads BLAS and OpenMP may use in each worker, in libraries
                such as numpy: a number, or a dict of ``"blas"`` and ``"openmp"`` to numbers. Needs
                threadpoolctl (``pip install 'hybridexec[threadpoolctl]'``).
            worker_state: called in each worker after the initializer; calls get what it returns
                from :func:`hybridexec.state`. If that is a context manager, it is entered, and
                calls get what that gives; it is left when the worker ends. Otherwise, its
                ``close()`` is called then, if it has one. Both may be asynchronous in the async
                lane, and there only. If it fails, the executor is broken.

        Warns:
            RuntimeWarning: workers may run more calls than they may open files.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
            NotImplementedError: this Python is free-threaded; gevent does not support that.
            ImportError: ``threadpool_limits`` or ``resolver`` needs a library that is missing.
            RuntimeError: a worker is importing the script that makes this executor, which lacks an
                ``if __name__ == "__main__"`` guard.
        """
        checks.interpreter()
        workers = checks.max_workers(max_workers)
        checks.concurrency(concurrency)
        checks.threads(threads)
        checks.initializer(initializer)
        checks.loop_factory(loop_factory)
        checks.worker_state(worker_state)
        arguments = checks.initargs(initargs)
        options.on_worker_loss(on_worker_loss)
        checks.seconds(timeout_grace, "timeout_grace")
        if max_memory_per_child is not None:
            checks.max_memory_per_child(max_memory_per_child)
        if max_tasks_per_child is not None:
            checks.max_tasks_per_child(max_tasks_per_child)
        if max_pending is not None:
            checks.integer(max_pending, "max_pending")
        lag = checks.hub_lag_warning(hub_lag_warning)
        idle = None if idle_timeout is None else checks.seconds(idle_timeout, "idle_timeout")
        switches = checks.monkey_patch(monkey_patch)
        settings: Settings | None = None
        asked = (resolver, dns_threads, nice, affinity, threadpool_limits)
        if any(value is not None for value in asked):
            from .settings import checked  # few need it

            settings = checked(workers, *asked)
        modules = checks.preload(preload)
        _check_main_guard()
        # In a worker, it is this that gives the class its base, and so its __enter__.
        import concurrent.futures.process  # noqa: F401

        # Here, not at the top: a worker that imports the user's script must not import this half.
        from .parent.assembly import Plan
        from .parent.launch import methods
        from .parent.launch.beginning import Beginning

        checks.context(mp_context)
        method = methods.start_method(mp_context, arguments)
        checks.start_method(method, max_tasks_per_child)
        plan = Plan(
            method=method,
            max_workers=workers,
            concurrency=concurrency,
            threads=threads,
            beginning=Beginning(initializer, arguments, loop_factory, worker_state),
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child,
            timeout_grace=timeout_grace,
            max_pending=max_pending,
            hub_lag_warning=lag,
            monkey_patch=switches,
            preload=modules,
            main_file=methods.main_file(),
            main_by_value=methods.main_travels_by_value(),
            worker_logs=bool(worker_logs),
            idle_timeout=idle,
            settings=settings,
            companion=_monitor if checks.monitor(monitor) else None,
        )
        self._assembly = self._assembled(plan)
        self._options = CallOptions(on_worker_loss=on_worker_loss)
        finalizer = weakref.finalize(self, type(self._assembly).abandon, self._assembly)
        finalizer.atexit = False  # at interpreter exit, parent.lifecycle ends the engine

    def _assembled(self, plan: Plan) -> Assembly:
        """The parts of this executor, which its first call makes."""
        from .parent.assembly import Assembly

        return Assembly(plan)

    def _view(self, options: CallOptions) -> ExecutorView:
        return ExecutorView(self, options)

    def cancel_all(self) -> None:
        """Cancel all calls, running ones and those made through views included; the executor goes
        on.

        Each call is stopped as by ``Future.cancel()``. When this returns, all futures have ended,
        and iterators of results end with a CancelledError (called from a future's callback, this
        returns before that). Use it when a loop over results was left, by Ctrl-C say, and nobody
        waits for its calls any more.
        """
        self._engine.cancel_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse new calls, finish those there are, then end the workers.

        Args:
            wait: return only when that is done (but at once if called from a future's callback).
                Ctrl-C meanwhile cancels all calls, and kills workers that do not end within a
                second.
            cancel_futures: cancel the calls that have not started.
        """
        from .parent import lifecycle

        if wait:
            try:
                lifecycle.finish(self._engine, cancel_futures)
            finally:
                self._assembly.end_reports()
        else:
            self._engine.shutdown(cancel_futures)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down and wait; if Ctrl-C has ended the block, cancel all calls instead, and kill
        workers that do not end within a second."""
        from .parent import lifecycle

        if lifecycle.is_interrupt(kind):
            lifecycle.leave([self._engine])
            self._assembly.end_reports()
        else:
            self.shutdown()

    def terminate_workers(self) -> None:
        """End the workers at once with SIGTERM and shut down, without waiting.

        Calls that have not started are cancelled, running ones fail with :class:`WorkerLost`.
        (Python 3.14's method of that name.)
        """
        self._engine.shutdown(True)
        self._engine.kill(signal.SIGTERM)

    def kill_workers(self) -> None:
        """As :meth:`terminate_workers`, with SIGKILL. (Python 3.14's method of that name.)"""
        self._engine.shutdown(True)
        self._engine.kill(signal.SIGKILL)

    @property
    def _engine(self) -> Engine:
        return self._assembly.engine


def _monitor(watched: Watched) -> Companion:
    from .watching.monitor import Monitor

    return Monitor(watched)


def _check_main_guard() -> None:
    """Refuse to work in a worker that is still importing the user's script."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(_MISSING_GUARD)
    if getattr(sys, "frozen", False) and sys.argv[1:2] in (["--multiprocessing-fork"], ["-c"]):
        raise RuntimeError(
            "this frozen program was run by multiprocessing to be a process of its own, and does "
            "not know: call multiprocessing.freeze_support() before anything else"
        )
