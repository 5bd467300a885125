"""What another process needs to be like this one: the interpreter, where it imports from, the
script.

Runs on: the thread that makes the first call; the short-lived threads that start workers. This
module imports nothing that takes long.
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
        RuntimeError: there is none; the text has the cure.
    """
    spawn = sys.modules.get("multiprocessing.spawn")  # it may have been told of another executable
    executable = sys.executable if spawn is None else spawn.get_executable()
    if not executable:
        raise RuntimeError(f"sys.executable does not say which interpreter runs this. {_CURE}")
    executable = os.fsdecode(executable)
    if not os.path.isfile(executable) or not os.access(executable, os.X_OK):
        raise RuntimeError(f"{executable!r}, as sys.executable says, cannot be run. {_CURE}")
    return executable


def if_none(executable: str) -> str:
    """What to do if that is why a process has come to nothing."""
    return (
        f"It was started as {executable!r}: if that is no Python interpreter with this library, "
        "name one with multiprocessing.set_executable()"
    )


def is_frozen() -> bool:
    """Whether this program is its own interpreter, and knows nothing but itself to run."""
    return bool(getattr(sys, "frozen", False))


def refuse_frozen(method: str) -> None:
    """Refuse to start a process by an interpreter's options, which a frozen program would take for
    its own: it would run itself, again and again."""
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
    """What is relative in ``sys.path`` belongs to some directory that was the current one: if it is
    not in what is that now, to the one in which the program was started."""
    if not isinstance(entry, str) or os.path.isabs(entry) or os.path.exists(entry or os.curdir):
        return entry
    process: Any = sys.modules.get("multiprocessing.process")
    return os.path.join(getattr(process, "ORIGINAL_DIR", None) or "", entry)


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """While this lasts, multiprocessing can make its preparation data also in a process of which it
    takes for granted what is not so. One thread at a time may do this."""
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
        """It, if there is one."""
        try:
            return os.getcwd()
        except OSError:
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
