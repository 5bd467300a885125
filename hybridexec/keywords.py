"""The keyword arguments of methods that have overloads, for type checkers.

Thread: none: nothing imports this when a program runs.
"""

from __future__ import annotations

from typing import TypedDict

from .progress import Shown


class AsyncMap(TypedDict, total=False):
    """Those of ``amap``, ``outcomes`` and ``aoutcomes``."""

    buffersize: int | None
    star: bool
    progress: Shown


class Map(AsyncMap, total=False):
    """Those of ``map``."""

    timeout: float | None
    chunksize: int


class Unordered(AsyncMap, total=False):
    """Those of ``map_unordered`` and ``amap_unordered``."""

    return_exceptions: bool
