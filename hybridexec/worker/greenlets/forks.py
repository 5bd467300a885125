"""A process that a call forks is no worker: it takes and answers no calls, and ends with its call.

Thread: the one that has forked, in the child, before any other code runs there; :func:`leave` in
the greenlet that has forked, when the user's code has ended there.
Guarantees: in a child that a call or the initializer has forked, nothing is read from the call
pipe, and nothing written to the result pipe or the status page; of the greenlets, only the one that
has forked goes on (see :mod:`.freshhub`). When its code ends, so does the process (see
:mod:`hybridexec.worker.forked`).
"""

from __future__ import annotations

import functools
import threading
from multiprocessing import process
from typing import Any

import greenlet
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub

from .. import atfork, forked
from ..outbox import Outbox
from . import children, freshhub

# In a child: the greenlet that has forked, or the one that it returns to in the end.
_forker: greenlet.greenlet | None = None


def install(runners: Any, outbox: Outbox) -> None:
    """From now on, have children let go of what is the worker's."""
    atfork.be_first()
    atfork.react_with(functools.partial(_let_go, runners, outbox, get_hub()))


def _let_go(runners: Any, outbox: Outbox, workers_hub: Any) -> None:
    global _forker
    greenlet.settrace(None)  # first of all: ours would write to the status page
    outbox.let_go()
    runners.let_go()
    children.let_go()
    threading._shutdown = _end_threads  # type: ignore[attr-defined]  # private
    # Those of other calls are not the child's, which would end them when it exits.
    process._children.clear()  # type: ignore[attr-defined]  # private
    # A native thread may have a hub of its own.
    hubs = {workers_hub, get_hub_if_exists()} - {None}
    _forker = freshhub.leave(hubs, forked.end)


def leave(error: BaseException | None = None) -> None:
    """The current greenlet is done with the user's code, which has raised ``error``: if it has
    forked this process, end that."""
    if greenlet.getcurrent() is _forker:
        forked.end(error)


def _end_threads() -> None:
    """Wait for the threads that the child has started; gevent's way takes the worker's main thread,
    which has ended in the child, for all of them."""
    for function in reversed(threading._threading_atexits):  # type: ignore[attr-defined]  # private
        function()
    ours = (threading.current_thread(), threading.main_thread())
    while others := [t for t in threading.enumerate() if not (t.daemon or t in ours)]:
        for thread in others:
            thread.join()
