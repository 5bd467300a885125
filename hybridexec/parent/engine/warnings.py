"""The library's own log records: an observer of what somebody should look at.

Thread: an observer's own, so that a handler that blocks keeps nobody waiting.
"""

from __future__ import annotations

import logging
from typing import Any

#: How much each kind of event matters, by its name, unless it was planned; the others are not
#: logged.
LEVELS = {
    "CallsAbandoned": logging.WARNING,
    "WorkerBlocked": logging.WARNING,
    "WorkerUnblocked": logging.INFO,
    "WorkerHeldUp": logging.WARNING,
    "WorkerStartFailed": logging.WARNING,
    "NodeJoined": logging.INFO,
    "NodeLeft": logging.WARNING,
    "NodeRefused": logging.WARNING,
    "ExecutorBroke": logging.ERROR,
}

_logger = logging.getLogger("hybridexec")


def log(event: Any) -> None:
    """Log such an event."""
    planned = not getattr(event, "lost", True)
    level = logging.INFO if planned else LEVELS[type(event).__name__]
    _logger.log(level, "%s", event.message)
