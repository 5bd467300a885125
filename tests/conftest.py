"""What all tests share. Markers and per-test timeouts are in pyproject.toml."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

import pytest
from hypothesis import settings

#: How long the interpreter may take to end after the last test.
EXIT_SECONDS = 60


#: How long an example takes says how busy the machine is. The same examples each time, so that a
#: failure is that of a change; others with --hypothesis-profile=search.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Have Ctrl-C, which some tests press, do what it does at a terminal.

    What a shell starts in the background ignores it, and so does all that is started from there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Turn a hang at interpreter exit into a failed run that shows where it hangs.

    No test's timeout covers that part, and joining workers at exit is where an executor hangs.
    """
    # A copy of the descriptor: sys.stderr itself may be closed on the way out.
    stderr = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=stderr)
