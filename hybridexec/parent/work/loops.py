"""What asyncio needs of futures in a process that gevent has patched.

Runs on: the greenlet that ends a future; most likely not the one that runs an event loop.
Guarantees: an event loop that waits for a future of ours is woken up by its end.

asyncio keeps the running loop per OS thread, and all greenlets of a thread are in one. A callback
by which a loop waits for a future would take the greenlet that calls it for the loop's own, change
the loop's state there and not wake it up: since Python 3.14 ``asyncio.wrap_future`` does, and with
it ``run_in_executor``; Tornado always has. So the loop is hidden from callbacks that others call,
as it is when a thread does. This module uses the asyncio and gevent that the parent has loaded.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


def outside(callback: Callable[[Any], object]) -> Callable[[Any], object]:
    """``callback``, to be called by a greenlet that may not be that of the running loop."""
    return partial(_call_outside, callback)


def _call_outside(callback: Callable[[Any], object], future: object) -> object:
    events: Any = sys.modules.get("asyncio.events")
    loop = None if events is None else events._get_running_loop()
    if loop is None or getattr(loop, "_thread_id", None) == threading.get_ident():
        return callback(future)
    # gevent calls this of a greenlet that is about to wait: others, the loop's too, run then.
    greenlet = sys.modules["gevent"].getcurrent()
    switch_out = getattr(greenlet, "switch_out", None)

    def show() -> None:
        if events._get_running_loop() is None:
            events._set_running_loop(loop)

    def leave() -> None:
        show()
        if switch_out is not None:
            switch_out()

    events._set_running_loop(None)
    greenlet.switch_out = leave
    try:
        return callback(future)
    finally:
        del greenlet.switch_out
        show()
