"""The fleet's pipes: for which of them it waits."""

from __future__ import annotations

import os
from typing import Any

from hybridexec import native
from hybridexec.parent.fleet import Fleet
from hybridexec.parent.pool import Pool
from hybridexec.wire import frames


class FakeLink:
    """Writes as much as the test says."""

    def __init__(self, calls_fd: int) -> None:
        self.calls_fd = calls_fd
        self.urgent = False
        self.stuck = False
        self.fits = True

    def write(self, head: Any, segments: Any = (), urgent: bool = False) -> None:
        self.urgent = self.urgent or urgent

    def flush(self) -> bool:
        self.stuck = not self.fits
        self.urgent = self.urgent and not self.fits
        return self.fits


def test_a_pipe_that_an_urgent_frame_has_found_empty_may_fill_up_again() -> None:
    launcher: Any = None
    post: Any = None
    fleet = Fleet(Pool(1, 1), launcher, post)
    poller = native.Poller()
    read, write = os.pipe()
    try:
        fleet.open(poller)
        link: Any = FakeLink(write)
        fleet.links[1] = link
        for head, fits in (((frames.CALLS,), False), ((frames.CANCEL,), True)):
            link.fits = fits
            fleet.send(1, head)
        assert not poller.wait(0), "there is nothing to be written"
        link.fits = False
        fleet.send(1, (frames.CALLS,))
        assert poller.wait(0) == [(write, native.Poller.WRITABLE)]
    finally:
        poller.close()
        os.close(read)
        os.close(write)
