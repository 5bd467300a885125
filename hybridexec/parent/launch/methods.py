"""Which start method is used, and whether workers can import this process's ``__main__``.

Thread: the one that makes the executor, so this module imports nothing that takes long.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from . import interpreter


def main_travels_by_value() -> bool:
    """Whether no worker can import this process's ``__main__`` (REPL, notebook, ``python -``)."""
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # multiprocessing does not import a __main__.py of a package, folder or zip file either.
        return bool(name == "__main__" or name.endswith(".__main__"))
    path: str | None = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        return True
    return os.path.splitext(os.path.basename(path))[0] == "ipython"


def main_file() -> str | None:
    """The path of this process's script, if it has one."""
    path: str | None = getattr(sys.modules.get("__main__"), "__file__", None)
    return path


_FORKS = (
    "initargs has a lock or queue of multiprocessing's default context, which only"
    " forked processes can have, so workers are forked. Make it with another context, as in "
    "multiprocessing.get_context('spawn').Lock(); or pass "
    "mp_context=multiprocessing.get_context('fork') if that is what you want"
)


def start_method(mp_context: Any, initargs: tuple[Any, ...]) -> str:
    """The start method to use: ``mp_context``'s, else our fork server.

    A lock or queue of the default context can be inherited by forked processes only, where that
    context forks. ProcessPoolExecutor would fork too, so such ``initargs`` make us do the same. And
    a frozen program has no interpreter to run as a server: whatever it starts is itself.
    """
    if mp_context is not None:
        method: str = mp_context.get_start_method()
        return method
    if initargs:
        import multiprocessing

        if multiprocessing.get_start_method() == "fork" and _need_fork(initargs):
            # The warning points to where the executor is made.
            warnings.warn(_FORKS, RuntimeWarning, stacklevel=3)
            return "fork"
    if interpreter.is_frozen():
        return "spawn" if sys.platform == "darwin" else "fork"  # as multiprocessing itself
    return "forkserver"


def _need_fork(initargs: tuple[Any, ...]) -> bool:
    from multiprocessing import context

    from ...wire import payload
    from ..work import session

    payload.set_main_by_value(main_travels_by_value())
    context.set_spawning_popen(_Rehearsal())  # type: ignore[arg-type]  # it acts as one
    try:
        session.dumps(initargs)
    except Exception as error:
        # Any other error is raised again when a worker is started, and reported then.
        return "fork context" in " ".join((str(error), *getattr(error, "__notes__", ())))
    finally:
        context.set_spawning_popen(None)
    return False


class _Rehearsal:
    """Stands in for a Popen, so that locks can be pickled."""

    DupFd = int

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        """Duplicate nothing."""
        return fd
