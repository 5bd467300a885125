"""Hides a running asyncio loop from futures' callbacks, in a process that gevent has patched.

Thread: the greenlet that ends a future, most likely not the one that runs an event loop.
Guarantees: an event loop that waits for a future of ours is woken up when that ends.

asyncio stores the running loop per OS thread, so it seems to run in each greenlet of that thread. A
callback by which a loop waits for a future would believe that it is called by the loop, change the
loop's state directly and not wake it up: ``asyncio.wrap_future``, and with it ``run_in_executor``,
does so since Python 3.14; Tornado always has. So callbacks called by another greenlet are shown no
running loop, as in another thread. This module uses the asyncio and gevent that the parent has
loaded.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


def outside(callback: Callable[[Any], object]) -> Callable[[Any], object]:
    """``callback``, for a greenlet that may not be the one that runs the loop."""
    return partial(_call_outside, callback)


def _call_outside(callback: Callable[[Any], object], future: object) -> object:
    events: Any = sys.modules.get("asyncio.events")
    loop = None if events is None else events._get_running_loop()
    if loop is None or getattr(loop, "_thread_id", None) == threading.get_ident():
        return callback(future)
    # gevent calls this when the greenlet is about to wait: others run then, the loop's too.
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
