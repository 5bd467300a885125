"""Counts for displays to show."""

from __future__ import annotations

from hybridexec import Progress
from hybridexec.parent.client.counted import Counts


def counts(
    done: int = 0,
    *,
    total: int | None = None,
    made: int = 100,
    failed: int = 0,
    cancelled: int = 0,
    retried: int = 0,
    running: int = 0,
) -> Counts:
    return Counts(total, made, done, failed, cancelled, retried, running)


def progress(
    done: int, total: int | None = None, failed: int = 0, retried: int = 0, per_second: float = 5.0
) -> Progress:
    return Progress(total, done, failed, retried, 0, per_second, None)
