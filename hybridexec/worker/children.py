"""Hear of the end of every child process that a call starts, also of a very short one.

Runs on: the worker's main thread installs, once, before user code; greenlets call.

gevent begins to listen for SIGCHLD when it watches its first child, which it forks before that. A
child that has ended by then is never heard of, and whoever waits for it waits for ever: so a call's
first ``subprocess.run`` can hang on a busy machine. Here it listens first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.os

_fork_and_watch: Callable[..., int] = gevent.os.fork_and_watch


def install() -> None:
    """Mend gevent's way to fork."""
    gevent.os.fork_and_watch = _listen_and_fork
    # Which takes it from there when it is imported, if it has not been.
    users: Any = sys.modules.get("gevent.subprocess")
    if users is not None:
        users.fork_and_watch = _listen_and_fork


def _listen_and_fork(*arguments: Any, **options: Any) -> int:
    gevent.get_hub().loop.install_sigchld()
    return _fork_and_watch(*arguments, **options)
