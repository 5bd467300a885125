"""How worker processes are set, apart from what they run: names, CPUs, niceness, native threads.

Thread: callers' threads check and make them; workers read them.
Guarantees: what a :class:`Settings` holds was checked, as far as this process can know; a worker
that cannot be set so says why (:mod:`hybridexec.worker.settings`).
"""

# Without `annotations` from `__future__`: a NamedTuple would compile each of its own, see
# tests/test_layers.py.
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from . import need
from .checks import integer

Resolver = Literal["thread", "ares", "dnspython", "block"]
Affinity = Literal["auto"] | Sequence[int | Sequence[int]]

#: How ``threadpoolctl`` calls the kinds of libraries, and what they read when they are loaded.
_VARIABLES = {
    "blas": (
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "openmp": ("OMP_NUM_THREADS",),
}
_RESOLVERS = ("thread", "ares", "dnspython", "block")


class Settings(NamedTuple):
    """What workers are set to. See ``HybridExecutor``."""

    #: Who looks names up in a worker for greenlets, and with how many threads; None for gevent's.
    resolver: Resolver | None = None
    dns_threads: int | None = None
    #: Added to the niceness.
    nice: int = 0
    #: The CPUs that workers may use: by their places, in turns. Empty: those that this process may.
    affinity: tuple[tuple[int, ...], ...] = ()
    #: How many threads libraries may use, by their kinds in ``threadpoolctl``'s words.
    threads: dict[str, int] = {}  # noqa: RUF012  # of a NamedTuple, and never changed

    @property
    def environment(self) -> dict[str, str]:
        """What libraries that are loaded later must find in the environment."""
        return {
            variable: str(count)
            for kind, count in self.threads.items()
            for variable in _VARIABLES[kind]
        }

    def of_place(self, place: int) -> "Settings":
        """Those of the worker in this place: it has its own CPUs."""
        if not self.affinity:
            return self
        return self._replace(affinity=(self.affinity[place % len(self.affinity)],))


def checked(
    max_workers: int,
    resolver: object,
    dns_threads: object,
    nice: object,
    affinity: object,
    threadpool_limits: object,
) -> Settings:
    """The settings that the user asks for.

    Raises:
        TypeError, ValueError: an argument is of a wrong type or out of range.
        ImportError: it needs a library that is not installed.
    """
    return Settings(
        _resolver(resolver),
        _dns_threads(dns_threads, resolver),
        0 if nice is None else integer(nice, "nice", low=-39, high=39),
        _affinity(affinity, max_workers),
        _threads(threadpool_limits),
    )


def _resolver(value: Any) -> Resolver | None:
    if value is None:
        return None
    if value not in _RESOLVERS:
        known = ", ".join(map(repr, _RESOLVERS))
        raise ValueError(f"resolver must be one of {known}, or None, not {value!r}")
    if value == "dnspython":
        need.dnspython("resolver='dnspython'")
    found: Resolver = value
    return found


def _dns_threads(value: object, resolver: object) -> int | None:
    if value is None:
        return None
    if resolver not in (None, "thread"):
        raise ValueError(f"dns_threads goes with resolver='thread' only, not with {resolver!r}")
    return integer(value, "dns_threads", high=10_000)


def _affinity(value: Any, max_workers: int) -> tuple[tuple[int, ...], ...]:
    if value is None:
        return ()
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("affinity needs a system that binds processes to CPUs, such as Linux")
    usable = os.sched_getaffinity(0)
    if value == "auto":
        return tuple((cpu,) for cpu in sorted(usable))
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(
            "affinity must be 'auto', or a list of CPUs or of lists of CPUs, not "
            f"{type(value).__name__}"
        )
    places = tuple(_cpus(each, usable) for each in value)
    if len(places) not in (1, max_workers):
        raise ValueError(
            f"affinity must name CPUs for each of the {max_workers} workers, or once for all of "
            f"them, not {len(places)} times"
        )
    return places


def _cpus(value: Any, usable: set[int]) -> tuple[int, ...]:
    several = isinstance(value, Iterable) and not isinstance(value, str)
    cpus = tuple(
        integer(cpu, "a CPU in affinity", low=0) for cpu in (value if several else [value])
    )
    if not cpus:
        raise ValueError("affinity leaves a worker no CPU")
    for cpu in cpus:
        if cpu not in usable:
            raise ValueError(
                f"affinity names CPU {cpu}, which this process may not use: it may use "
                + ", ".join(map(str, sorted(usable)))
            )
    return cpus


def _threads(value: object) -> dict[str, int]:
    if value is None:
        return {}
    need.threadpoolctl("threadpool_limits")
    if not isinstance(value, Mapping):
        count = integer(value, "threadpool_limits")
        return dict.fromkeys(_VARIABLES, count)
    for kind, count in value.items():
        if kind not in _VARIABLES:
            known = ", ".join(map(repr, _VARIABLES))
            raise ValueError(f"threadpool_limits has no {kind!r}; there are: {known}")
        integer(count, f"threadpool_limits[{kind!r}]")
    return dict(value)
