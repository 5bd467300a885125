"""Makes threads end whose class was taken from ``threading`` before that was patched.

Thread: main, once, after patching, in a worker that is a copy of the parent.
Guarantees: once such a thread has ended, ``join()`` returns and ``is_alive()`` is False.

Modules that the parent imported keep the ``Thread`` they had (by ``from threading import Thread``,
or in a class derived from it, as ``concurrent.futures.process`` has). Only gevent's own class marks
a thread as ended when its greenlet has; before Python 3.13, the original leaves that to the
interpreter, to which the end of a greenlet is not the end of a thread.
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
