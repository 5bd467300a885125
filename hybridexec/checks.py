"""Checks of the user's arguments, made once, by the public methods.

Thread: callers' threads.
Guarantees: a value that passes is of the right type and in range; every refusal names the argument,
what it may be, and what it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import native

#: More greenlets in one process were never measured; a larger number is taken for a mistake.
MAX_CONCURRENCY = 1_000_000
#: More native threads in one process help nobody; a larger number is taken for a mistake.
MAX_THREADS = 10_000
#: The number of process ids that a Linux machine has by default; a larger one is a mistake.
MAX_WORKERS = 32_768
#: A hub ticks every 0.1 s; a lag of less than a few ticks means nothing.
MIN_HUB_LAG = 0.3
#: Descriptors a worker needs for itself and for the modules it imports.
_SPARE_DESCRIPTORS = 64
_CAP_SYS_RESOURCE = 24  # Linux's number
#: The switches of ``gevent.monkey.patch_all``.
_SWITCHES = frozenset(
    {
        "Event",
        "aggressive",
        "builtins",
        "contextvars",
        "dns",
        "os",
        "queue",
        "select",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "thread",
        "time",
    }
)


def integer(value: object, name: str, *, low: int = 1, high: int | None = None) -> int:
    """``value``, if it is an int of ``low`` to ``high``; a bool is not an int here."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < low:
        bound = "greater than 0" if low == 1 else f"at least {low}"
        raise ValueError(f"{name} must be {bound}")
    if high is not None and value > high:
        raise ValueError(f"{name} must be at most {high:,}, not {value:,}")
    return value


def seconds(value: object, name: str, *, zero: bool = False) -> float:
    """``value``, if it is a finite number of seconds greater than 0 (or 0, with ``zero``)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not 0 <= number < float("inf") or (number == 0 and not zero):
        bound = "of 0 or more" if zero else "greater than 0"
        raise ValueError(f"{name} must be a finite number of seconds {bound}, not {number}")
    return number


def positive(value: object, name: str) -> float:
    """``value``, if it is a finite number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be a finite number greater than 0, not {number}")
    return number


def hub_lag_warning(value: object) -> float | None:
    """Seconds a hub may be blocked before that is reported, None for any number."""
    if value is None:
        return None
    lag = seconds(value, "hub_lag_warning")
    if lag < MIN_HUB_LAG:
        raise ValueError(f"hub_lag_warning must be at least {MIN_HUB_LAG} seconds, not {lag}")
    return lag


def interpreter() -> None:
    """Refuse an interpreter that workers cannot run on."""
    # The function exists since Python 3.13.
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise NotImplementedError(
            "workers run on gevent, which does not support free-threaded Python: use a build of "
            "Python with the GIL (python3.14, say, not python3.14t)"
        )


def max_workers(value: int | None) -> int:
    """The number of processes: as given, or one per usable CPU."""
    if value is None:
        return usable_cpus()
    return integer(value, "max_workers", high=MAX_WORKERS)


def usable_cpus() -> int:
    """The number of CPUs that this process may run on; where the system does not tell, of all."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def concurrency(value: int) -> int:
    """The number of calls that a worker runs at once; warns if they cannot open a file each."""
    integer(value, "concurrency", high=MAX_CONCURRENCY)
    most = most_concurrency()
    if most is not None and value > most:
        import warnings

        needed, hard = value + _SPARE_DESCRIPTORS, most + _SPARE_DESCRIPTORS
        warnings.warn(
            f"concurrency={value:,} takes up to {needed:,} open files in each worker, if each call "
            f"opens one, but the hard limit is {hard:,}: raise it (ulimit -Hn, or LimitNOFILE= of "
            f"a systemd unit), or ask for at most {max(1, most):,} and use more workers",
            RuntimeWarning,
            stacklevel=3,
        )
    return value


def threads(value: int) -> int:
    """The number of calls that a worker for native threads runs at once."""
    return integer(value, "threads", high=MAX_THREADS)


def most_concurrency() -> int | None:
    """For how many calls that open a file each the hard limit suffices; None if for any number."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or _may_raise_limits():
        return None
    return hard - _SPARE_DESCRIPTORS


def _may_raise_limits() -> bool:
    """Whether workers could raise the hard limit: root can, but not in most containers."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            capabilities = next(line for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return os.geteuid() == 0
    return bool(int(capabilities.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)


def monkey_patch(value: object) -> bool | dict[str, bool]:
    """True, False, or switches for ``gevent.monkey.patch_all``."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        for key, switch in value.items():
            if not isinstance(key, str) or not isinstance(switch, bool):
                raise TypeError(
                    "monkey_patch must map names of gevent.monkey.patch_all switches to bools, "
                    f"not {key!r}: {switch!r}"
                )
            if key not in _SWITCHES:
                known = ", ".join(sorted(_SWITCHES))
                raise ValueError(f"monkey_patch has no switch {key!r}; there are: {known}")
        return dict(value)
    raise TypeError(
        "monkey_patch must be True, False or a mapping of gevent.monkey.patch_all switches, "
        f"not {type(value).__name__}"
    )


def preload(value: Iterable[str]) -> tuple[str, ...]:
    """Names of modules to import in the fork server, before workers are forked from it."""
    if isinstance(value, str | bytes):
        raise TypeError(f"preload must be a collection of module names; did you mean [{value!r}]?")
    if not isinstance(value, Iterable):
        raise TypeError(f"preload must hold module names, not be {type(value).__name__}")
    names = tuple(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"preload must hold module names, not {type(name).__name__}")
    return names


def initializer(value: object) -> Callable[..., object] | None:
    """The function each worker calls first, or None."""
    if value is not None and not callable(value):
        raise TypeError("initializer must be a callable")
    return value


def worker_state(value: object) -> Callable[[], object] | None:
    """What makes a worker's state, or None."""
    if value is not None and not callable(value):
        raise TypeError(
            "worker_state must be a callable that makes a worker's state, or returns a context "
            f"manager that does, not {type(value).__name__}"
        )
    return value


def loop_factory(value: object) -> Callable[[], object] | None:
    """What makes a worker's event loop, or None."""
    if value is not None and not callable(value):
        raise TypeError(
            "loop_factory must be a callable that returns a new event loop, such as "
            "asyncio.SelectorEventLoop"
        )
    return value


def initargs(value: object) -> tuple[Any, ...]:
    """The initializer's arguments."""
    if not isinstance(value, Iterable):
        raise TypeError(f"initargs must be a tuple of arguments, not {type(value).__name__}")
    return tuple(value)


def chunksize(value: object) -> None:
    """Checked, but otherwise ignored."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"chunksize must be an integer, not {type(value).__name__}")
    if value < 1:
        raise ValueError("chunksize must be >= 1.")


def star(value: object, iterables: int) -> None:
    """Whether each item is a tuple of arguments: only one iterable can hold those."""
    if not isinstance(value, bool):
        raise TypeError(f"star must be True or False, not {type(value).__name__}")
    if value and iterables != 1:
        raise TypeError(
            f"star=True takes one iterable, each item of which holds a call's arguments; there "
            f"are {iterables}"
        )


def buffersize(value: object) -> None:
    """Python 3.14's check, and its texts."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("buffersize must be an integer or None")
    if value < 1:
        raise ValueError("buffersize must be None or > 0")


def processes(value: object) -> None:
    """multiprocessing.Pool's check, and its text."""
    if isinstance(value, int) and value < 1:
        raise ValueError("Number of processes must be at least 1")
    integer(value, "processes", high=MAX_WORKERS)


def maxtasksperchild(value: object, fork: bool) -> None:
    """multiprocessing.Pool's check, and its text."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("maxtasksperchild must be a positive int or None")
    if fork:
        raise ValueError(
            "maxtasksperchild is incompatible with the 'fork' start method: leave context out, or "
            "pass multiprocessing.get_context('spawn')"
        )


def max_memory_per_child(value: object) -> None:
    """Bytes of memory at which a worker is replaced."""
    integer(value, "max_memory_per_child")
    if native.resident_bytes(os.getpid()) is None:
        raise ValueError(
            "max_memory_per_child needs /proc, which this system does not have: use "
            "max_tasks_per_child instead"
        )


def max_tasks_per_child(value: object) -> None:
    """ProcessPoolExecutor's check, and its texts."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if value <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")


def monitor(value: object) -> bool:
    """Whether others may look at the executor; for None, whether the environment says so."""
    if value is None:
        return os.environ.get("HYBRIDEXEC_MONITOR", "") not in ("", "0")
    if not isinstance(value, bool):
        raise TypeError(f"monitor must be True, False or None, not {type(value).__name__}")
    return value


def context(value: object) -> None:
    """A multiprocessing context, or None."""
    if value is not None and not callable(getattr(value, "get_start_method", None)):
        raise TypeError(
            "mp_context must be a multiprocessing context, such as "
            f"multiprocessing.get_context('spawn'), not {type(value).__name__}"
        )


def start_method(method: str, max_tasks: int | None) -> None:
    """Refuse what does not go with the start method."""
    if method != "fork":
        return
    if max_tasks is not None:
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
            "supply a different mp_context."
        )
    if native.is_patched("threading"):
        raise ValueError(
            "the 'fork' start method cannot be used in a process that gevent has patched, because "
            "a forked hub does not work; use 'forkserver' or 'spawn', and locks and queues of a "
            "context of that kind in initargs"
        )
