"""Keep a ``gevent.Timeout`` that a call left running from hitting the runner's next call.

Runs on: the hub. A runner is one greenlet that runs many calls, so a timeout must remember which
of them it was started for, not only which greenlet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import getcurrent
from gevent.timeout import Timeout

_start = Timeout.start
_expire = Timeout._on_expiration  # type: ignore[attr-defined]  # private


def install(call_of: Callable[[object], int]) -> None:
    """Bind timeouts to the call that starts them, which ``call_of`` tells."""

    def start(self: Any) -> None:
        self.call = call_of(getcurrent())
        _start(self)

    def expire(self: Any, target: Any, error: Any) -> None:
        if call_of(target) == self.call:
            _expire(self, target, error)

    Timeout.start = start  # type: ignore[method-assign]  # that is the purpose
    Timeout._on_expiration = expire  # type: ignore[attr-defined]  # private
