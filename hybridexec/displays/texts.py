"""Displays that need nothing: a callable, and a line of text.

Thread: the reporter's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import TextIO

from ..progress import Progress


class Told:
    """A callable of the user's."""

    def __init__(self, function: Callable[[Progress], object]) -> None:
        self._function = function

    def show(self, progress: Progress, last: bool) -> None:
        """See :class:`.reporter.Display`."""
        self._function(progress)


class Line:
    """A line of text that is written again and again, at the same place."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._head = f"{name}: " if name else ""
        self._length = 0

    def show(self, progress: Progress, last: bool) -> None:
        """See :class:`.reporter.Display`."""
        text = f"{self._head}{progress}"[: self._columns() - 1]
        before, self._length = self._length, len(text)
        self._stream.write(f"\r{text.ljust(before)}" + "\n" * last)
        self._stream.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):  # a notebook's stream is no terminal
            return shutil.get_terminal_size().columns
