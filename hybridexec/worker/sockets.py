"""Has multiprocessing's pickling learn of sockets when there may be some.

multiprocessing imports ``socket`` to say how sockets are pickled, before it is known whether the
program uses any.

Thread: main, which imports multiprocessing; then whichever imports ``socket``.
Guarantees: who imports that finds its sockets pickled as ever.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .late import after_import


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let multiprocessing be imported here without ``socket``."""
    if not {"multiprocessing.reduction", "socket"}.isdisjoint(sys.modules):
        yield
        return
    sys.modules["socket"] = _Socket("socket")
    try:
        yield
    finally:
        del sys.modules["socket"]
    _teach(sys.modules["multiprocessing.reduction"])


def _teach(reduction: Any) -> None:
    del reduction.ForkingPickler._extra_reducers[_Socket.socket]

    def learn(module: Any) -> None:
        reduction.socket = module
        reduction.register(module.socket, reduction._reduce_socket)

    after_import("socket", learn)


class _Socket(ModuleType):
    """Stands for the module: has what multiprocessing looks for while it is imported."""

    CMSG_LEN = SCM_RIGHTS = None

    class socket:  # as there
        sendmsg = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module("socket"), name)
