"""Handles errors in the hub that belong to no call: our own end the worker, the user's are printed.

Thread: main, in the hub, when something that it called has failed.
Guarantees: if our code has failed, the worker ends (see :mod:`hybridexec.worker.faults`). An
exception in a greenlet, thread or callback of the user's ends that and nothing else, as in a
thread, even ``SystemExit`` and ``KeyboardInterrupt``, with which gevent would end the program.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

import gevent

from .. import faults, inbound, outbox
from . import feed, reach, runners, service, stops

#: What the hub calls of ours.
_VITAL = frozenset(
    module.__name__ for module in (feed, inbound, outbox, reach, runners, service, stops)
)
_SERVE, _RUN_CALLS = feed.Feed._serve.__code__, runners.Runners._run_calls.__code__


def install() -> None:
    """End this process when the hub finds that something of ours has failed, and only then."""
    hub: Any = gevent.get_hub()
    handle = hub.handle_error

    def handle_error(context: Any, kind: Any, error: Any, trace: Any) -> None:
        if _is_vital(context, trace):
            faults.end(error)
        handle(context, kind, error, trace)

    # gevent asks for both by these names. The other would raise the error in the main greenlet,
    # which keeps the worker alive; by then, what is no SystemExit has been printed.
    hub.handle_error = handle_error
    hub.handle_system_error = lambda kind, error, trace=None: None


def _is_vital(context: object, trace: TracebackType | None) -> bool:
    """Whether it was of ours: a runner that could not begin or failed around a call (what is thrown
    at it between two calls costs it only itself), or something that the hub called."""
    called = [frame for frame, _ in traceback.walk_tb(trace)]
    if type(context) is feed.Runner:
        codes = [frame.f_code for frame in called]
        return _SERVE not in codes or _RUN_CALLS in codes
    modules = [str(frame.f_globals.get("__name__")) for frame in called]
    return next((name for name in modules if not name.startswith("gevent.")), None) in _VITAL
