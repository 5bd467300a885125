"""The end of a worker in which code of ours has failed.

Thread: the hub and the attendant.
Guarantees: if code of ours has failed, out of memory, say, calls could wait for ever, so its worker
ends; what was read and not handled, taken and not run, or produced and not sent, is lost with it:
the parent knows what to do about that, and of anything else it would never hear.
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
