"""``map`` for a subclass that has a ``submit`` of its own, which all calls are to go through.

Thread: the caller's; then the one that iterates the results.
Guarantees: as the standard library's: what is left when the iteration ends early is cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from . import native

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


def map_through(
    submit: Callable[..., Future[T]],
    items: Iterator[Iterable[Any]],
    fn: Callable[..., T],
    deadline: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    """``HybridExecutor.map``, of the results of futures."""
    from concurrent.futures import CancelledError  # a worker that imports this needs none

    futures: deque[Future[T]] = deque()
    try:
        for item in islice(items, buffersize):
            futures.append(submit(fn, *item))
    except BaseException:
        for future in futures:
            future.cancel()
        raise

    def results() -> Iterator[T]:
        try:
            while futures:
                future = futures.popleft()
                try:
                    left = None if deadline is None else deadline - native.monotonic()
                    future.exception(left)
                except CancelledError:
                    pass  # result() raises it below
                except BaseException:
                    future.cancel()
                    raise
                futures.extend(submit(fn, *item) for item in islice(items, 1))
                done = [future.result]
                del future  # the iterator must not keep results alive
                yield done.pop()()
        finally:
            for future in futures:
                future.cancel()

    return results()
