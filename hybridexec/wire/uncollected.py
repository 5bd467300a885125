"""Make many objects at once, without garbage collections meanwhile.

CPython looks for garbage after every few hundred containers that are made. None of the thousands
that a frame or a row of results is turned into is garbage, and to look at them over and over takes
as long as to make them. From Python 3.12 on, the collector waits until bytecode runs again. Before
that, it has to be told.

Thread: any.
Guarantees: the collector goes on as it was set. If what is made runs code that sets it, or lets
another thread do so, that is what counts.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: A threshold that is never reached, and that nobody else sets. (To disable the collector instead
#: would undo what another thread has decided meanwhile.)
_NEVER = 0x7FFFFFED


def uncollected(make: Callable[..., T], *source: Any) -> T:
    """What ``make`` makes of its arguments; it should be much, or this costs more than it saves.

    Raises:
        Whatever ``make`` raises.
    """
    if sys.version_info >= (3, 12):
        return make(*source)
    threshold = gc.get_threshold()[0]
    if threshold == _NEVER:  # another thread is at it
        return make(*source)
    try:
        gc.set_threshold(_NEVER)
        return make(*source)
    finally:
        if gc.get_threshold()[0] == _NEVER:
            gc.set_threshold(threshold)
