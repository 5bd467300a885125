"""Executors whose own calls run in a lane, as if each were made through ``options(lane=...)``."""

from __future__ import annotations

from hybridexec import HybridExecutor


def start_in(lane: str, executor: HybridExecutor) -> HybridExecutor:
    """Have this executor's calls run in that lane."""
    executor._options = executor._options.updated({"lane": lane})
    return executor
