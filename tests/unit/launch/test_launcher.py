"""The pipes to a worker: a write to one that is gone raises no SIGPIPE."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import pytest

from hybridexec.parent import lifecycle
from hybridexec.parent.launch.launcher import _open_safe_pipe


@pytest.mark.parametrize("proc", [True, False])
def test_a_write_after_the_reader_has_gone_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, proc: bool
) -> None:
    def refuse(*_: Any) -> int:
        raise FileNotFoundError

    if not proc:
        monkeypatch.setattr(os, "open", refuse)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with contextlib.ExitStack() as ours:
            with contextlib.ExitStack() as theirs:
                read, write, *_ = fds = _open_safe_pipe(ours, theirs)
                assert not any(map(os.get_inheritable, fds))
                os.write(write, b"heard")
                assert os.read(read, 9) == b"heard"
            assert lifecycle._descriptors.issuperset(fds[1:])
            os.write(write, b"lost")
    finally:
        signal.signal(signal.SIGPIPE, before)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_reader_hears_of_the_end_of_the_pipe() -> None:
    with contextlib.ExitStack() as theirs:
        with contextlib.ExitStack() as ours:
            read, *_ = _open_safe_pipe(ours, theirs)
        assert os.read(read, 9) == b""
