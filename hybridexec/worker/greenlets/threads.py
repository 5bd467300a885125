"""Have threads end whose class was taken from ``threading`` before that was patched.

Runs on: the main thread of a worker that is a copy of the parent, once, when it has patched.
Guarantees: ``join()`` returns and ``is_alive()`` is False once such a thread has ended.

Modules that the parent imported keep the ``Thread`` they had (``from threading import Thread``, or
a class derived from it: ``concurrent.futures.process`` has one), and only gevent's own tells that a
thread has ended when its greenlet has. Before Python 3.13, the original has the interpreter tell,
for whom a greenlet's end is no thread's.
"""

from __future__ import annotations

import sys
from typing import Any

from gevent import getcurrent
from gevent.monkey import get_original, is_module_patched


def mend() -> None:
    """Have the original class tell it as well, if this process's threads are greenlets."""
    if sys.version_info >= (3, 13) or not is_module_patched("threading"):
        return
    original = get_original("threading", "Thread")
    bootstrap = original._bootstrap

    def bootstrap_and_tell(thread: Any) -> None:
        # The first that a thread runs, in a greenlet made for it.
        own: Any = getcurrent()
        own.rawlink(lambda _: _ended(thread))
        bootstrap(thread)

    original._bootstrap = bootstrap_and_tell


def _ended(thread: Any) -> None:
    if thread._tstate_lock:  # gevent's own class may have done this
        thread._tstate_lock.release()
        thread._stop()
