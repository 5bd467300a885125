"""Pools for the contract tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hybridexec import Pool

MakePool = Callable[..., Pool]


@contextmanager
def pools(method: str | None) -> Iterator[MakePool]:
    """What makes pools of two workers, and terminates them in the end."""
    made: list[Pool] = []
    context = None if method is None else multiprocessing.get_context(method)

    def make(processes: int = 2, *arguments: Any, **named: Any) -> Pool:
        made.append(Pool(processes, *arguments, **{"context": context, **named}))
        return made[-1]

    try:
        yield make
    finally:
        for pool in made:
            pool.terminate()
            pool.join()
