"""Makes other waits in the kernel cooperative: for file locks, signals, epoll, SQLite.

Thread: main installs this once, after patching and before user code.
Guarantees: the code for each is imported when it is first used, not when the worker starts.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import is_module_patched, is_object_patched

from ... import native
from ..late import after_import

_SIGNAL_FUNCTIONS = ("sigwait", "sigwaitinfo", "sigtimedwait", "pause", "pthread_kill")
#: What waits, by the module that has it, and the module and function of ours that do it instead.
_REPLACED = {
    "fcntl": {"flock": ("filelocks", "flock"), "lockf": ("filelocks", "lockf")},
    "os": {"lockf": ("filelocks", "os_lockf")},
    # The latter calls what is in the former, or has it by the same names.
    "_signal": {name: ("sigwaits", name) for name in _SIGNAL_FUNCTIONS},
    "signal": {name: ("sigwaits", name) for name in _SIGNAL_FUNCTIONS if name != "sigwait"},
    "time": {"pthread_getcpuclockid": ("sigwaits", "pthread_getcpuclockid")},
}
#: Seconds that are waited between two looks at first and at last.
_FIRST, _LAST = 0.0005, 0.02

#: What was replaced, by its full name.
originals: dict[str, Any] = {}

_waiting = 0


def install() -> None:
    """Put ours in the place of those functions; a second time changes nothing."""
    if originals:
        return
    for name in _REPLACED:
        if is_module_patched({"fcntl": "os", "_signal": "signal"}.get(name, name)):
            after_import(name, _replace)
    if is_object_patched("select", "epoll"):
        # gevent has taken it away. It is made when somebody asks for it.
        sys.modules["select"].__getattr__ = _epoll  # type: ignore[method-assign]  # a module's
    after_import("sqlite3.dbapi2", _mend_sqlite)
    if is_module_patched("threading"):
        after_import("trio._core._entry_queue", _mend_trio_queue)
        after_import("trio._core._thread_cache", _mend_trio_threads)


def _epoll(name: str) -> Any:
    if name != "epoll":
        raise AttributeError(f"module 'select' has no attribute {name!r}")
    module = importlib.import_module(f"{__package__}.polling")
    sys.modules["select"].epoll = module.epoll  # type: ignore[attr-defined]  # taken away
    return module.epoll


def _mend_trio_queue(module: Any) -> None:
    queue: Any = module.EntryQueue
    init = queue.__init__

    def init_with_lock(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        # It insists on one that is safe in a handler of a signal. Nobody waits while he has it.
        self.lock = native.new_lock()

    queue.__init__ = init_with_lock


def _mend_trio_threads(module: Any) -> None:
    module.set_os_thread_name = None  # the system knows no greenlet by the id of its thread


def _mend_sqlite(dbapi2: ModuleType) -> None:
    importlib.import_module(f"{__package__}.sqlite").mend(dbapi2)


def _replace(module: ModuleType) -> None:
    for name, ours in _REPLACED[module.__name__].items():
        original = getattr(module, name, None)
        if original is not None:
            originals[f"{module.__name__}.{name}"] = original
            setattr(module, name, _postponed(original, *ours))


def _postponed(original: Callable[..., Any], ours: str, name: str) -> Callable[..., Any]:
    module = f"{__package__}.{ours}"

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if module not in sys.modules:
            importlib.import_module(module)
        return getattr(sys.modules[module], name)(*args, **kwargs)

    return call


class Pauses:
    """Pauses between one look and the next, for a greenlet or a thread without a hub: growing, and
    longer where many wait, so that all of them together do not look too often."""

    def __init__(self) -> None:
        self._next = _FIRST

    def pause(self, longest: float | None = None) -> None:
        """Wait a while, but not for longer than that."""
        global _waiting
        seconds = self._next
        self._next = min(2 * seconds, max(_LAST, _waiting / 2000))
        if longest is not None:
            seconds = max(0.0, min(seconds, longest))
        _waiting += 1
        try:
            sleep(seconds)
        finally:
            _waiting -= 1


def sleep(seconds: float) -> None:
    """Have this greenlet sleep, or this thread, if it has no hub."""
    (native.sleep if get_hub_if_exists() is None else gevent.sleep)(seconds)
