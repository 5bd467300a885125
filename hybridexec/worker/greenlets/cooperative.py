"""Makes multiprocessing's locks, queues and proxies cooperative in a patched worker.

Thread: main installs this once, after patching and before user code.

gevent's patching stops at multiprocessing. Its locks block in C, and the hub with them, so a
greenlet that waits for a lock which its neighbour holds would wait for ever; so do its pipes. A
manager's proxies keep a connection per OS thread, which all greenlets share, so that their messages
would mix. All this is mended for this process only: what a lock, queue or proxy means to other
processes is unchanged. And a greenlet that forks would wait for one that submits to a
ThreadPoolExecutor.

Few programs use any of it, so each module is mended when it is imported, and the code for that is
imported then.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

from gevent.monkey import is_module_patched

from ..late import after_import

#: What is mended, and which function of ours does it.
_MENDED = {
    "multiprocessing.connection": ("connections", "mend"),
    "multiprocessing.synchronize": ("sharing", "mend_locks"),
    "multiprocessing.sharedctypes": ("sharing", "mend_values"),
    "multiprocessing.queues": ("sharing", "mend_queues"),
    "multiprocessing.managers": ("proxies", "mend"),
}


def install() -> None:
    """Mend multiprocessing, if this process's threads are greenlets."""
    if not is_module_patched("threading"):
        return
    after_import("concurrent.futures.thread", _mend_thread_pools)
    after_import("multiprocessing.util", _mend_util)
    for name in _MENDED:
        after_import(name, _mend)


def _mend(module: Any) -> None:
    ours, function = _MENDED[module.__name__]
    getattr(importlib.import_module(f".{ours}", __package__), function)(module)


def _mend_thread_pools(thread: Any) -> None:
    # Who forks waits for the lock that was there when the module was imported, in a hook that does
    # not look here again: whoever uses it from now on gets another. (gevent sees to that itself
    # where it looks for locks that are held, and imports the module to do so.)
    thread._global_shutdown_lock = threading.Lock()


def _mend_util(util: Any) -> None:
    """A ``ForkAwareLocal`` that is made again from the patched ``local``: one per greenlet."""

    class ForkAwareLocal(threading.local):
        def __init__(self) -> None:
            util.register_after_fork(self, lambda local: local.__dict__.clear())

        def __reduce__(self) -> tuple[Any, ...]:
            return type(self), ()

    util.ForkAwareLocal = ForkAwareLocal
