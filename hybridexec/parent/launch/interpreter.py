"""What another process needs to be like this one: the interpreter, ``sys.path``, the script.

Thread: the one that makes the first call, and the short-lived ones that start workers. This module
imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_CURE = (
    "Name a Python interpreter that has this library with multiprocessing.set_executable() before "
    'the first call, or use mp_context=multiprocessing.get_context("fork"), which needs none'
)


def path() -> str:
    """The interpreter to run.

    Raises:
        RuntimeError: there is none; the text says how to mend that.
    """
    spawn = sys.modules.get("multiprocessing.spawn")  # set_executable() may have been called
    executable = sys.executable if spawn is None else spawn.get_executable()
    if not executable:
        raise RuntimeError(f"sys.executable does not say which interpreter runs this. {_CURE}")
    executable = os.fsdecode(executable)
    if not os.path.isfile(executable) or not os.access(executable, os.X_OK):
        raise RuntimeError(f"{executable!r}, as sys.executable says, cannot be run. {_CURE}")
    return executable


def if_none(executable: str) -> str:
    """What to do if ``executable`` is the reason why a process did not start."""
    return (
        f"It was started as {executable!r}: if that is no Python interpreter with this library, "
        "name one with multiprocessing.set_executable()"
    )


def is_frozen() -> bool:
    """Whether this program is frozen: its executable runs this program and nothing else."""
    return bool(getattr(sys, "frozen", False))


def refuse_frozen(method: str) -> None:
    """Raise if the fork server is to be started by a frozen program, which would take the
    interpreter's options for its own arguments, and run itself again and again."""
    if method == "forkserver" and is_frozen():
        raise RuntimeError(
            "this program is frozen (sys.frozen), so no fork server can be started with it. Leave "
            'mp_context out, or use multiprocessing.get_context("fork"); "spawn" works if the '
            "program calls multiprocessing.freeze_support() before anything else"
        )


def search_path() -> list[str]:
    """``sys.path`` for another process."""
    return [_found(entry) for entry in sys.path if isinstance(entry, str)]


def _found(entry: Any) -> Any:
    """An entry of ``sys.path``, made absolute if it is relative and not found in the current
    directory: it then belongs to the one in which the program was started."""
    if not isinstance(entry, str) or os.path.isabs(entry) or os.path.exists(entry or os.curdir):
        return entry
    process: Any = sys.modules.get("multiprocessing.process")
    return os.path.join(getattr(process, "ORIGINAL_DIR", None) or "", entry)


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Let multiprocessing make its preparation data even where ``__main__`` has no ``__spec__`` or
    the current directory is gone. One thread at a time may enter this."""
    spawn: Any = importlib.import_module("multiprocessing.spawn")
    main: Any = sys.modules.get("__main__")
    if not hasattr(main, "__spec__"):  # a debugger has made it anew
        main.__spec__ = None
    theirs = spawn.get_preparation_data

    def ours(name: str) -> dict[str, Any]:
        data: dict[str, Any] = theirs(name)
        if data["dir"] is None:
            del data["dir"]  # the worker stays where it is
        data["sys_path"] = [_found(entry) for entry in data["sys_path"]]
        return data

    spawn.os, spawn.get_preparation_data = _WithoutFolder(), ours
    try:
        yield
    finally:
        spawn.os, spawn.get_preparation_data = os, theirs


class _WithoutFolder:
    """Stands for ``os`` where the current directory may have been removed."""

    @staticmethod
    def getcwd() -> str | None:
        """The current directory; None if it was removed."""
        try:
            return os.getcwd()
        except OSError:
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
