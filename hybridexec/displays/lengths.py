"""How many calls there are to be.

Thread: callers' threads.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable
from typing import Any

from ..frontier import Frontier


def length(iterables: Iterable[Any]) -> int | None:
    """The number of calls for the items of these, which the shortest ends; None if that is not
    known, because one does not say its length, or because all are endless."""
    lengths = [_length(iterable) for iterable in iterables]
    shortest = min((math.nan if known is None else known for known in lengths), default=math.inf)
    return int(shortest) if None not in lengths and shortest < math.inf else None


def _length(iterable: Any) -> float | None:
    if isinstance(iterable, itertools.count | itertools.cycle):
        return math.inf
    if isinstance(iterable, itertools.repeat):
        times = operator.length_hint(iterable, -1)
        return times if times >= 0 else math.inf
    if isinstance(iterable, Frontier):
        return None  # what waits is not all
    try:
        return len(iterable)
    except Exception:  # whatever a class of the user's has instead of a length
        return None
