"""``as_completed``, with progress.

Thread: the one that iterates.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .progress import Shown

T = TypeVar("T")


def as_completed(
    fs: Iterable[Future[T]], timeout: float | None = None, *, progress: Shown = None
) -> Iterator[Future[T]]:
    """Return an iterator of the futures, in the order in which they end.

    As :func:`concurrent.futures.as_completed`, for futures of any executor, but it can show how far
    they have come.

    Args:
        fs: the futures.
        timeout: seconds from the first ``__next__`` until one raises TimeoutError.
        progress: as for :meth:`HybridExecutor.map`.

    Raises:
        TypeError: ``progress`` is nothing that can show progress.
    """
    from .displays.choice import maker

    make = maker(progress, "")
    if make is None:
        return concurrent.futures.as_completed(fs, timeout)
    from .displays.reporter import Reporter
    from .parent.client.counted import CountedFutures

    futures = set(fs)
    counted = CountedFutures(Reporter(make, len(futures)))
    for future in futures:
        counted.add(future)
    counted.complete()
    return counted.watched(lambda: concurrent.futures.as_completed(futures, timeout))
