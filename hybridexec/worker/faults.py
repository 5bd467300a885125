"""Ends a worker in which the library's own code has failed.

Thread: main and the helper thread.
Guarantees: if our code fails, out of memory, say, calls might wait for ever, so the worker ends.
What was read and not handled, taken and not run, or produced and not sent, is lost with it: the
parent handles the loss of a worker, but of anything else it would never hear.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import NoReturn


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
