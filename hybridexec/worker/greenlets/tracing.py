"""Keeps the status page's ``CURRENT`` exact: which call has the CPU.

Thread: main, at each switch between greenlets.
Guarantees: once :func:`trace` was called, ``CURRENT`` is the id of the call whose runner is
running, and 0 while the hub or a greenlet of the user's is.

It costs about 0.4 µs a switch, so it is switched on by the first call that needs it (see
:class:`.inbox.Job`). A tracer that was set before is still called; one that the user's code sets
later replaces ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlet

from ...wire.page import CURRENT


def trace(words: memoryview, call_of: Callable[[object], int]) -> None:
    """Write the call of each greenlet that is switched to; the runner that calls this writes its
    own."""
    before = greenlet.gettrace()

    def on_switch(event: Any, greenlets: Any) -> None:
        words[CURRENT] = call_of(greenlets[1])
        if before is not None:
            before(event, greenlets)

    greenlet.settrace(on_switch)
