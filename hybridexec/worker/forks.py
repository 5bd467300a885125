"""What a call forks is no worker: it takes no calls, answers none, and ends with its call.

Runs on: whatever thread has forked, in the child, before any other code runs there; :func:`leave`
in the runner's greenlet.
Guarantees: in a child that a call or the initializer has forked, nothing is read from the call
pipe, and nothing written to the result pipe or the status page. When the code that has forked is
done there, the process ends as a program would.

Such a child has a copy of all greenlets, and of a hub that goes on as soon as its code waits.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from typing import Any

import greenlet

from .outbox import Outbox

# In a child: the greenlet that has forked.
_forker: greenlet.greenlet | None = None


def install(runners: Any, outbox: Outbox) -> None:
    """From now on, have children let go of what is the worker's."""
    os.register_at_fork(after_in_child=functools.partial(_let_go, runners, outbox))


def _let_go(runners: Any, outbox: Outbox) -> None:
    global _forker
    _forker = greenlet.getcurrent()
    outbox.let_go()
    runners.let_go()


def leave(error: BaseException | None = None) -> None:
    """The current greenlet is done with the user's code, which has raised ``error``: if it has
    forked this process, end that."""
    if greenlet.getcurrent() is not _forker:
        return
    code: Any = 1
    try:
        if error is None:
            code = 0
        elif not isinstance(error, SystemExit):
            traceback.print_exception(error)
        elif error.code is None or isinstance(error.code, int):
            code = (error.code or 0) & 0xFF
        else:
            sys.stderr.write(f"{error.code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
