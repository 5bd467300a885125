"""Workers' lives, made of what happened to them: from when to when, on which line, how they ended.

Thread: any.
"""

from __future__ import annotations

import heapq
from typing import Any

from ...process import Process


class Life:
    """One worker's. All times are monotonic seconds."""

    def __init__(self, worker: int, process: Process, line: int, start: float) -> None:
        #: Its number.
        self.worker = worker
        self.pid: int | None = process.pid
        self.node: str = process.node
        #: Which calls it runs; empty if its start was not told of.
        self.lane = ""
        #: The line it is drawn on, from 0: the first that was free when it began.
        self.line = line
        self.start = start
        #: When it could be sent calls, if it could; when it ended, or was last heard of.
        self.ready: float | None = None
        self.end = start
        self.ended = False
        #: Whether its end was not planned; why it came, in words.
        self.lost = False
        self.cause = "was not needed any more"
        #: When its hub was blocked: from when to when, and by which call.
        self.blocked: list[tuple[float, float, str]] = []
        #: If it is: since when, and by which call.
        self.stuck: tuple[float, str] | None = None

    def free(self, at: float) -> None:
        """Its hub runs again."""
        if self.stuck is not None:
            start, call = self.stuck
            self.blocked.append((start, at, call))
            self.stuck = None

    def close(self, at: float) -> None:
        """So far it has been told of."""
        self.free(at)
        self.end = at


def lives(log: list[tuple[Any, ...]], now: float) -> list[Life]:
    """The lives of the workers that the log names.

    Args:
        log: as of :meth:`.Watched.log`.
    """
    story = _Story()
    for entry in log:
        match entry:
            case at, "WorkerStarted", worker, process, lane:
                story.life(at, worker, process).lane = lane
            case at, "WorkerReady", worker, process:
                story.life(at, worker, process).ready = at
            case at, "WorkerBlocked", worker, process, seconds, call, *_:
                story.life(at, worker, process).stuck = at - seconds, call
            case at, "WorkerUnblocked", worker, process, _:
                story.life(at, worker, process).free(at)
            case at, "WorkerRecycled", worker, process, cause:
                story.life(at, worker, process).cause = cause
            case at, "WorkerEnded", worker, process, lost, cause:
                story.end(at, worker, process, lost, cause)
    for life in story.current.values():
        life.close(now)
    return story.all


class _Story:
    """What has been read of a log."""

    def __init__(self) -> None:
        self.all: list[Life] = []
        #: Those that go on, by number.
        self.current: dict[int, Life] = {}
        # Lines that nobody is on, and how many there are.
        self._free: list[int] = []
        self._lines = 0

    def life(self, at: float, worker: int, process: Process) -> Life:
        """A worker's, which begins now if this is the first that is heard of it."""
        life = self.current.get(worker)
        if life is None:
            if self._free:
                line = heapq.heappop(self._free)
            else:
                line, self._lines = self._lines, self._lines + 1
            life = self.current[worker] = Life(worker, process, line, at)
            self.all.append(life)
        return life

    def end(self, at: float, worker: int, process: Process, lost: bool, cause: str) -> None:
        """A worker has ended."""
        life = self.life(at, worker, process)
        life.close(at)
        life.ended, life.lost = True, lost
        life.cause = cause or life.cause
        del self.current[worker]
        heapq.heappush(self._free, life.line)
