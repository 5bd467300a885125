"""Executors that are timed until every one of their workers is there."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..harness.question import OURS
from . import calls


def executor(contender: str, workers: int, **options: Any) -> Executor:
    """This library's executor, or the ProcessPoolExecutor whose start method the name ends in."""
    if contender == OURS:
        from hybridexec import HybridExecutor

        return HybridExecutor(workers, **options)
    method = contender.rpartition(" ")[2]
    return ProcessPoolExecutor(workers, multiprocessing.get_context(method), **options)


@contextmanager
def all_ready(contender: str, workers: int) -> Iterator[tuple[Executor, float]]:
    """An executor, and the seconds from before its constructor to its last initializer's end."""
    with tempfile.TemporaryDirectory() as folder:
        roll = Path(folder) / "ready"
        roll.touch()
        start = time.perf_counter()
        with executor(
            contender, workers, initializer=calls.announce, initargs=(str(roll),)
        ) as opened:
            # As many unfinished calls as workers: executors start no more of these than they need.
            futures = [opened.submit(calls.sleep, 0.2) for _ in range(workers)]
            while os.path.getsize(roll) < workers:
                time.sleep(0.0005)
            elapsed = time.perf_counter() - start
            for future in futures:
                future.result()
            yield opened, elapsed
