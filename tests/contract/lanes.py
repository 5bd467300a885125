"""Workers of any kind, for tests that try one."""

from __future__ import annotations

from typing import Any

from hybridexec import HybridExecutor


def start_in(lane: str, executor: HybridExecutor) -> HybridExecutor:
    """Have this executor's workers be of that lane; before its first call."""
    launcher: Any = executor._engine._supervisor._launcher
    launcher._boot = launcher._boot._replace(lane=lane)
    return executor
