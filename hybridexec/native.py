"""The operating system's own primitives, whatever gevent has patched.

Used by: both sides. The parent's I/O thread and the worker's two pipe threads must be real
threads that block for real, also in a process where ``gevent.monkey`` replaced ``threading``,
``select`` and ``time``.
Guarantees: never imports gevent; asks it for the originals only where it is loaded already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def original(module: str, name: str) -> Any:
    """Return ``module.name`` as it was before gevent patched it (or as it is, if it never did)."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(importlib.import_module(module), name)
    return monkey.get_original(module, name)


def is_patched(module: str) -> bool:
    """Whether gevent has patched ``module`` in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def start_thread(target: Callable[[], None], name: str) -> None:
    """Run ``target`` in an OS thread that never keeps the process alive.

    Where threading is patched, ``threading.Thread`` would be a greenlet: a bare thread is used
    instead. Where it is not, a real ``Thread`` has a name that debuggers and profilers show.
    """
    if is_patched("threading"):
        original("_thread", "start_new_thread")(target, ())
    else:
        threading = importlib.import_module("threading")
        threading.Thread(target=target, name=name, daemon=True).start()
