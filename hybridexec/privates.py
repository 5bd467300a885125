"""``ProcessPoolExecutor``'s private attributes, as far as a ``HybridExecutor`` has them.

Thread: callers' threads.
Guarantees: those with a meaning here have a value, for a view as for its executor; the others raise
an AttributeError that says what can be read; none of the base's machinery can be started, because
none of it exists.

Programs use private names of a ``ProcessPoolExecutor`` to read how many workers it has, which
processes these are, or whether it is broken, and some to start the workers ahead of the calls.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import base

if TYPE_CHECKING:
    from concurrent.futures.process import ProcessPoolExecutor

    from .options import CallOptions
    from .parent.assembly import Assembly
else:
    ProcessPoolExecutor = base.first_base("concurrent.futures.process", "ProcessPoolExecutor")


class Privates(ProcessPoolExecutor):
    """A ``ProcessPoolExecutor`` without any of its machinery."""

    _assembly: Assembly
    _options: CallOptions

    # Programs call these to have workers before the first call.

    def _start_executor_manager_thread(self) -> None:
        self._start_workers(0)

    def _adjust_process_count(self) -> None:
        self._start_workers(1)

    def _spawn_process(self) -> None:
        self._start_workers(1)

    def _launch_processes(self) -> None:
        self._start_workers(self._assembly.plan.max_workers)

    def _start_workers(self, count: int) -> None:
        lane = self._options.lane
        self._assembly.open(lane)
        self._assembly.engine.start_workers(count, lane)

    def _force_shutdown(self, operation: str) -> None:
        # Python 3.14 implements the two methods with it.
        if operation == "kill":
            self.kill_workers()
        elif operation == "terminate":
            self.terminate_workers()
        else:
            raise ValueError(f"Unsupported operation: {operation!r}")

    @abstractmethod
    def terminate_workers(self) -> None:
        """End the workers with SIGTERM."""

    @abstractmethod
    def kill_workers(self) -> None:
        """End the workers with SIGKILL."""


base.derive(Privates, "concurrent.futures.process", "ProcessPoolExecutor")


class _Unfinished:
    """The unfinished calls, of which only the number can be had."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def _context(assembly: Assembly) -> Any:
    import multiprocessing

    return multiprocessing.get_context(assembly.plan.method)


def _broken(assembly: Assembly) -> str | bool:
    broken = assembly.engine.broken
    return False if broken is None else str(broken)


class _Answer:
    """An attribute that has a meaning here. It has no setter, so a program may overwrite it."""

    def __init__(self, name: str, answer: Callable[[Assembly], Any]) -> None:
        self._name = name
        self._answer = answer

    def __get__(self, executor: Any, kind: type) -> Any:
        if executor is None:  # as the base's: instances have it, the class does not
            raise AttributeError(f"type object {kind.__name__!r} has no attribute {self._name!r}")
        return self._answer(executor._assembly)


class _Nothing:
    """An attribute that has no meaning here."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, executor: Any, kind: type) -> Any:
        raise AttributeError(
            f"{kind.__name__!r} object has no attribute {self._name!r}; of ProcessPoolExecutor's "
            f"private attributes, it has {', '.join(_ANSWERS)}",
            name=self._name,
            obj=executor,
        )


_ANSWERS: dict[str, Callable[[Assembly], Any]] = {
    "_max_workers": lambda assembly: assembly.plan.max_workers,
    # The worker processes that take calls, by pid.
    "_processes": lambda assembly: assembly.engine.snapshot.processes(),
    # Why the executor is broken, or False.
    "_broken": _broken,
    "_shutdown_thread": lambda assembly: assembly.engine.closed is not None,
    "_pending_work_items": lambda assembly: _Unfinished(assembly.engine.snapshot.unfinished),
    "_mp_context": _context,
    "_initializer": lambda assembly: assembly.plan.beginning.initializer,
    "_initargs": lambda assembly: assembly.plan.beginning.initargs,
    "_max_tasks_per_child": lambda assembly: assembly.plan.max_tasks_per_child,
}
_NOTHING = (
    "_cancel_pending_futures",
    "_call_queue",
    "_executor_manager_thread",
    "_executor_manager_thread_wakeup",
    "_force_shutting_down",
    "_idle_worker_semaphore",
    "_queue_count",
    "_result_queue",
    "_safe_to_dynamically_spawn_children",
    "_shutdown_lock",
    "_work_ids",
)

# Not by __getattr__: in a class that has one, every attribute lookup takes longer, and each submit
# needs some.
for _name, _answer in _ANSWERS.items():
    setattr(Privates, _name, _Answer(_name, _answer))
for _name in _NOTHING:
    setattr(Privates, _name, _Nothing(_name))
