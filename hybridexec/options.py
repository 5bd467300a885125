"""How the calls made through one view of an executor are run.

Thread: callers' threads make them; any thread reads them.
Guarantees: what a :class:`CallOptions` holds was checked.
"""

# Without `annotations` from `__future__`: a NamedTuple would compile each of its own, see
# tests/test_layers.py.
import functools
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Self

from .checks import integer, seconds
from .styles import FOR_LOOPS, style_of

#: A larger number of retries is taken for a mistake.
MAX_RETRIES = 1000

#: More items of one stream under way are taken for a mistake.
MAX_BUFFERSIZE = 1_000_000

OnWorkerLoss = Literal["fail", "retry"]

#: What runs a call: a greenlet, a task of asyncio's, or a native thread; each in workers of its own
#: kind.
Lane = Literal["greenlet", "async", "thread"]
LANES: tuple[Lane, ...] = ("greenlet", "async", "thread")


class _Unchanged:
    def __repr__(self) -> str:
        return "<unchanged>"


#: The default of an option that may be None: not given, so it is not changed.
UNCHANGED: Any = _Unchanged()


#: Seconds before a call's first retry, unless told otherwise.
INITIAL_BACKOFF = 0.1

#: Seconds before a call's first retry, or who says how many before each: it is given the error, and
#: how many runs of the call have failed.
Backoff = float | Callable[[BaseException, int], float]

#: How a worker is to run a call: its timeout in seconds, or None; whether the result includes how
#: long it took; whether the status page must show when it has the CPU; what is to be known for
#: retries (``retrying``), or None; how many items may be under way, or None if its result is not to
#: be iterated; and the number of the run, from 1, if that may ask ``backoff``.
How = tuple[float | None, bool, bool, bytes | None, int | None, int]


class _CallOptions(NamedTuple):
    timeout: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    backoff: Backoff = INITIAL_BACKOFF
    on_worker_loss: OnWorkerLoss = "fail"
    #: Report each call's duration with its result.
    timed: bool = False
    #: What workers get of ``retry_on``, ``backoff`` if that is a callable (else None) and
    #: ``retries``, pickled; None if there are no retries.
    retrying: bytes | None = None
    #: Context variables that travel along.
    propagate: tuple[ContextVar[Any], ...] = ()
    lane: Lane = "greenlet"
    #: Whether that is the lane whatever the function: if not, it is for those that are not async.
    lane_chosen: bool = False
    stream_buffersize: int = 100
    #: Iterate what the call returns, and send its items.
    streamed: bool = False
    #: How fast calls may come, as a :class:`.limits.Limits`; None if that is not limited.
    limits: Any = None


#: The options that say how fast calls may come.
OF_LIMITS = ("rate", "per", "burst", "key", "per_key", "rate_per_key")


class CallOptions(_CallOptions):
    """How the calls made through one view are run. See ``HybridExecutor.options``."""

    @functools.cached_property
    def how(self) -> How:
        """The part of it that workers need."""
        # If a worker dies or a call is late, it must be known which of its calls had the CPU.
        traced = self.timeout is not None or self.on_worker_loss == "retry"
        window = self.stream_buffersize if self.streamed else None
        return self.timeout, self.timed, traced, self.retrying, window, 1

    def lane_of(self, function: object) -> Lane:
        """The lane in which a call of this function runs."""
        return self.in_async.lane if style_of(function) in FOR_LOOPS else self.lane

    @functools.cached_property
    def in_async(self) -> "CallOptions":
        """The same for functions that are async."""
        return self if self.lane_chosen else self._replace(lane="async")

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """A copy with the ``changes``, except those that are UNCHANGED."""
        changes = {name: value for name, value in changes.items() if value is not UNCHANGED}
        if changes.get("timeout") is not None:
            changes["timeout"] = seconds(changes["timeout"], "timeout")
        if "retries" in changes:
            integer(changes["retries"], "retries", low=0, high=MAX_RETRIES)
        if "retry_on" in changes:
            changes["retry_on"] = retry_on(changes["retry_on"])
        if "backoff" in changes:
            changes["backoff"] = backoff(changes["backoff"])
        if "on_worker_loss" in changes:
            on_worker_loss(changes["on_worker_loss"])
        if "propagate" in changes:
            changes["propagate"] = propagate(changes["propagate"])
        if "lane" in changes:
            changes["lane_chosen"] = lane(changes["lane"]) is not None
            changes["lane"] = changes["lane"] or LANES[0]
        if "stream_buffersize" in changes:
            integer(changes["stream_buffersize"], "stream_buffersize", high=MAX_BUFFERSIZE)
        limiting = {name: changes.pop(name) for name in OF_LIMITS if name in changes}
        if limiting:
            from . import limits  # few programs need them, and each worker imports this module

            changes["limits"] = limits.updated(self.limits, limiting)
        return self._replace(**changes)


def retry_on(value: object) -> tuple[type[BaseException], ...]:
    """Exception types after which a call is tried again."""
    types = value if isinstance(value, tuple) else (value,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(
                f"retry_on must be an exception type or a tuple of them, not hold {kind!r}"
            )
    return types


def backoff(value: Any) -> Backoff:
    """Seconds, or a callable that returns some."""
    if callable(value):
        return value  # type: ignore[no-any-return]  # what it takes is seen when it is called
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            "backoff must be a number of seconds, or a callable that is given the error and how "
            f"many runs have failed, not {type(value).__name__}"
        )
    return seconds(value, "backoff", zero=True)


def propagate(value: object) -> tuple[ContextVar[Any], ...]:
    """Context variables, each once."""
    if not isinstance(value, Iterable):
        raise TypeError(
            f"propagate must hold contextvars.ContextVar objects, not be {type(value).__name__}; "
            "one goes into a list"
        )
    variables = tuple(dict.fromkeys(value))
    for variable in variables:
        if not isinstance(variable, ContextVar):
            raise TypeError(
                f"propagate must hold contextvars.ContextVar objects, not {type(variable).__name__}"
            )
    return variables


def lane(value: object) -> Lane | None:
    """A lane, or None for the one that goes with the function."""
    for known in LANES:
        if value == known:
            return known
    if value is not None:
        names = ", ".join(f'"{name}"' for name in LANES)
        raise ValueError(f"lane must be one of {names}, or None, not {value!r}")
    return None


def on_worker_loss(value: object) -> OnWorkerLoss:
    """What happens to the calls that a dead worker was running."""
    if value not in ("fail", "retry"):
        raise ValueError(f'on_worker_loss must be "fail" or "retry", not {value!r}')
    return value
