"""End a worker in which code of ours has failed, out of memory, say: calls could wait for ever.

Runs on: the hub, when something that it called has failed; the attendant's thread, when it has.
Guarantees: what was read and not handled, taken and not run, or produced and not sent, is lost with
its worker: the parent knows what to do about that, and of anything else it would never hear.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

import gevent

from . import inbound, outbox, runners, service, stops

#: What the hub calls of ours.
_VITAL = frozenset(module.__name__ for module in (inbound, outbox, runners, service, stops))
_RUN, _RUN_CALLS = runners.Runners._run.__code__, runners.Runners._run_calls.__code__


def install() -> None:
    """End this process when the hub finds that something of ours has failed."""
    hub = gevent.get_hub()
    handle = hub.handle_error

    def handle_error(context: Any, kind: Any, error: Any, trace: Any) -> None:
        # What ends a program ends the worker by itself, with a status of its own.
        if _is_vital(context, trace) and not isinstance(error, SystemExit | KeyboardInterrupt):
            end(error)
        handle(context, kind, error, trace)

    hub.handle_error = handle_error  # type: ignore[assignment, method-assign]  # gevent asks it by this name


def guard(function: Callable[[], None]) -> None:
    """Call ``function``; end this process if it fails."""
    try:
        function()
    except BaseException as error:
        end(error)


def end(error: BaseException) -> NoReturn:
    """End this process because of ``error``."""
    try:
        traceback.print_exception(error)
    finally:
        os._exit(1)


def _is_vital(context: object, trace: TracebackType | None) -> bool:
    """Whether it was of ours: a runner that could not begin or failed around a call (what is thrown
    at it between two calls costs it only itself), or something that the hub called."""
    called = [frame for frame, _ in traceback.walk_tb(trace)]
    if type(context) is runners.Runner:
        codes = [frame.f_code for frame in called]
        return _RUN not in codes or _RUN_CALLS in codes
    modules = [str(frame.f_globals.get("__name__")) for frame in called]
    return next((name for name in modules if not name.startswith("gevent.")), None) in _VITAL
