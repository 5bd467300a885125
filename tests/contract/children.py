"""What tests of child processes share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest


def no_child_is_left() -> bool:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    return True


#: What the shell waits for a file with.
UNTIL = "until [ -e {path} ]; do sleep 0.01; done; exit {code}"


def by_waitpid(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def have_turns(path: Path) -> None:
    for _ in range(3):
        time.sleep(0.01)
    path.touch()
