"""Plain blocking code on every core, with tens of thousands of calls in flight.

``HybridExecutor`` is modelled on ``concurrent.futures`` and replaces ``ProcessPoolExecutor``: each
of its worker processes runs a pool of gevent greenlets.

Importing this package loads neither gevent nor multiprocessing. The class loads multiprocessing,
with its base class; its workers load both.
"""

from __future__ import annotations

# Not typing's: importing that takes longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import events as events
    from . import joblib as joblib
    from . import metrics as metrics
    from . import tracing as tracing
    from .completed import as_completed
    from .errors import CallTimeout, ExecutorBroken, NodeLost, RemoteError, WorkerLost
    from .executor import ExecutorView, HybridExecutor
    from .frontier import Frontier
    from .outcomes import Outcome
    from .parent.client.call_stream import CallStream
    from .parent.engine.observation import Observation
    from .pool import Pool
    from .progress import Progress
    from .retry_after import RetryAfter
    from .reusable import get_reusable_executor
    from .shared_state import state
    from .stats import (
        Durations,
        ExecutorStats,
        LaneStats,
        NodeStats,
        Restart,
        RunningCall,
        WorkerStats,
    )

__all__ = [
    "CallStream",
    "CallTimeout",
    "Durations",
    "ExecutorBroken",
    "ExecutorStats",
    "ExecutorView",
    "Frontier",
    "HybridExecutor",
    "LaneStats",
    "NodeLost",
    "NodeStats",
    "Observation",
    "Outcome",
    "Pool",
    "Progress",
    "RemoteError",
    "Restart",
    "RetryAfter",
    "RunningCall",
    "WorkerLost",
    "WorkerStats",
    "as_completed",
    "get_reusable_executor",
    "state",
]

__version__ = "0.1.0"

_HOMES = {
    "CallStream": "parent.client.call_stream",
    "CallTimeout": "errors",
    "Durations": "stats",
    "ExecutorBroken": "errors",
    "ExecutorStats": "stats",
    "ExecutorView": "executor",
    "Frontier": "frontier",
    "HybridExecutor": "executor",
    "LaneStats": "stats",
    "NodeLost": "errors",
    "NodeStats": "stats",
    "Observation": "parent.engine.observation",
    "Outcome": "outcomes",
    "Pool": "pool",
    "Progress": "progress",
    "RemoteError": "errors",
    "Restart": "stats",
    "RetryAfter": "retry_after",
    "RunningCall": "stats",
    "WorkerLost": "errors",
    "WorkerStats": "stats",
    "as_completed": "completed",
    "get_reusable_executor": "reusable",
    "state": "shared_state",
}
#: Modules that need no import statement of their own.
_MODULES = frozenset({"events", "joblib", "metrics", "tracing"})


def __getattr__(name: str) -> Any:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
