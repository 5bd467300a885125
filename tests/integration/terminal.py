"""A terminal, as a program sees one, and what a person sees in it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

import hybridexec

#: Seconds after which something that should have been shown has not.
_PATIENCE = 40.0


class Terminal:
    """A program's terminal. Lines that have left its upper edge are kept."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int, columns: int, rows: int) -> None:
        self.process = process
        self._fd = fd
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def shown(self) -> str:
        """What it shows now."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def scrolled(self) -> str:
        """What it has shown before, above that."""
        return "\n".join(
            "".join(line[column].data for column in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        )

    def wait_for(self, *conditions: str | Callable[[], object]) -> None:
        """Wait until it shows these texts, and these conditions hold, all at once."""

        def holds() -> bool:
            shown = self.shown
            return all(each in shown if isinstance(each, str) else each() for each in conditions)

        deadline = time.monotonic() + _PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self.shown
            if not self._read(0.1) and self.process.poll() is not None and not holds():
                raise AssertionError(f"the program has ended; it shows:\n{self.shown}")

    def end(self) -> int:
        """Wait for the program's end; its exit status."""
        deadline = time.monotonic() + _PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read(0.1)
        while self._read(0.1):
            pass
        return self.process.returncode

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._fd, b"\x03")

    def _read(self, seconds: float) -> bool:
        try:
            if not select.select([self._fd], [], [], seconds)[0]:
                return False
            self._stream.feed(os.read(self._fd, 65536))
        except OSError:  # the program has closed its side
            return False
        return True


@contextmanager
def terminal(
    *command: object, columns: int = 100, rows: int = 40, stdout: int | None = None
) -> Iterator[Terminal]:
    """Run ``python *command`` in a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    home = str(Path(hybridexec.__file__).parent.parent)
    size = {"COLUMNS": str(columns), "LINES": str(rows)}  # the tests' own terminal has others
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        start_new_session=True,
        # It becomes the process's terminal, so that Ctrl-C is a signal.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        env={**os.environ, **size, "PYTHONPATH": home, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours, columns, rows)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
