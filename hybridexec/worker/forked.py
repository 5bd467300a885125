"""Ends a process that a call has forked, when the call's code has ended there.

Thread: the one that has forked, in the child.
Guarantees: the process ends as a program would: it waits for threads that were started in the
child, calls exit handlers, and flushes output.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from typing import Any, NoReturn


def end(error: BaseException | None) -> NoReturn:
    """End this process, whose code has raised ``error``, if any."""
    code: Any = 1
    try:
        code = _code_of(error)
        threading._shutdown()  # type: ignore[attr-defined]  # private
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _code_of(error: BaseException | None) -> int:
    """The exit status of a program that ends with ``error``; what it prints then is printed."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
