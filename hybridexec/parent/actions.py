"""What the pool asks the I/O thread to do."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..wire import frames


class Start(NamedTuple):
    """Start a process for this worker."""

    worker: int


class Send(NamedTuple):
    """Write a frame to this worker."""

    worker: int
    head: tuple[Any, ...]
    segments: list[frames.Buffer]


class Kill(NamedTuple):
    """Send a signal to this worker's process."""

    worker: int
    signal: int


Action = Start | Send | Kill
