"""The kinds of worker, by the names of their lanes, and what each does before user code runs.

Thread: main.
Guarantees: a process enters the room of its own kind only. So a worker that is not for greenlets is
not patched, and loads gevent only if the user's code does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lane import Kind

#: The rooms in which they are.
_ROOMS = {"greenlet": "greenlets", "async": "tasks", "thread": "threads"}
#: Modules of which those in a room, and all that they import, call few functions, and seldom.
SELDOM_USED = {"greenlet": ("traceback",)}


def of(lane: str) -> Kind:
    """The kind of worker that has this lane."""
    kind: Kind = importlib.import_module(f".{_ROOMS[lane]}.lane", __package__)
    return kind


def patch(lane: str, switches: bool | Mapping[str, bool], locks_held: bool = True) -> None:
    """Have the standard library be what this lane's calls need; a second time changes nothing.

    Args:
        locks_held: whether this thread may hold locks.
    """
    if lane == "greenlet":
        from .greenlets import patching

        patching.patch(switches, locks_held=locks_held)


def revive_hub() -> None:
    """Make a hub usable that a preloaded module made before this process was forked."""
    if "gevent" in sys.modules:
        from .greenlets import patching

        patching.revive_hub()
