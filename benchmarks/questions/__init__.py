"""What is measured: one question in each module, and here the list of them.

A module has its ``QUESTION``, and ``measure``, which measures one contender once.
"""

from __future__ import annotations

import importlib
from types import ModuleType

#: In the order in which they are shown.
QUESTIONS = (
    "submit_throughput",
    "awaited",
    "map_throughput",
    "map_objects",
    "single_dicts",
    "pools",
    "fetched",
    "large_payloads",
    "round_trip",
    "sleepers",
    "memory",
    "fetch",
    "fetch_clients",
    "async_map",
    "async_sleepers",
    "async_fetch",
    "thread_calls",
    "recipes",
    "lanes",
    "cpu_bound",
    "short_call",
    "stream",
    "items",
    "watching",
    "shown",
    "context",
    "arrays",
    "start_up",
    "stuck_worker",
    "shared_locks",
    "cluster",
    "cluster_sleepers",
    "curve_tasks",
    "curve_workers",
    "curve_concurrency",
    "curve_payload",
    "curve_pending",
    "curve_keys",
    "curve_nodes",
)


def load(name: str) -> ModuleType:
    """The module of one of them."""
    return importlib.import_module(f"{__name__}.{name}")
