"""Runs our code first in the child of a fork, before the hooks of anybody else.

Thread: the one that has forked, in the child; :func:`be_first` on main, once.
Guarantees: what :func:`react_with` was given runs before any other Python code in the child,
however that was forked: by ``os.fork``, ``os.forkpty``, or ``_posixsubprocess.fork_exec`` if it
calls hooks at all.

Python calls such hooks in the order in which they were registered. Those of the user's modules, or
of what a site has every program import, may have been registered before ours, and may block.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

_reaction: Callable[[], None] | None = None
_registered = False


def be_first() -> None:
    """Put our hook in front of those that there are; a second time changes nothing.

    It looks for the interpreter's list of them among all objects: the earlier, the quicker.
    """
    global _registered
    if _registered:
        return
    _registered = True
    os.register_at_fork(after_in_child=_in_child)
    for holder in gc.get_referrers(_in_child):
        if type(holder) is list and holder[-1] is _in_child:
            holder.insert(0, holder.pop())


def react_with(reaction: Callable[[], None]) -> None:
    """Have ``reaction`` called in each child from now on, in place of an earlier one."""
    global _reaction
    _reaction = reaction


def _in_child() -> None:
    if _reaction is not None:
        _reaction()
