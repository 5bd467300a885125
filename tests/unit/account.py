"""A listener that adds up what it is told, and asserts that it can be true."""

from __future__ import annotations

from collections import Counter

from hybridexec.events import (
    CallsCancelled,
    CallsEvent,
    CallsFailed,
    CallsFinished,
    CallsLost,
    CallsRetried,
    CallsStarted,
    CallsSubmitted,
    CallsTimedOut,
    Event,
    ExecutorBroke,
    NodeEvent,
    WorkerEnded,
    WorkerEvent,
    WorkerReady,
    WorkerStarted,
    WorkerStartFailed,
)

#: What ends a call.
ENDS = (CallsFinished, CallsFailed, CallsTimedOut, CallsCancelled, CallsLost)


class Account:
    """Listens from the start."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        #: How many calls were told of, by the event.
        self.calls: Counter[type[Event]] = Counter()
        #: What each worker was last told to have done, by its number.
        self.lives: dict[int, type[Event]] = {}
        #: Those that have started and not ended.
        self.alive: dict[int, int | None] = {}

    def __call__(self, told: list[Event]) -> None:
        assert told, "nobody is told nothing"
        before = self.events[-1].at if self.events else 0.0
        for event in told:
            assert event.at >= before
            self.events.append(event)
            if isinstance(event, CallsEvent):
                assert event.count > 0
                self.calls[type(event)] += event.count
            elif isinstance(event, WorkerEvent):
                self._note_worker(event)
            else:
                assert isinstance(event, ExecutorBroke | NodeEvent)
            assert self.unfinished >= 0, "calls are submitted before they end"

    def _note_worker(self, event: WorkerEvent) -> None:
        number, last = event.worker, self.lives.get(event.worker)
        if isinstance(event, WorkerStartFailed):
            assert last is WorkerEnded
            return
        assert last is not WorkerEnded, "a worker ends once"
        if isinstance(event, WorkerStarted):
            assert last is None
            assert event.pid is not None
            self.alive[number] = event.pid
        elif isinstance(event, WorkerEnded):
            assert event.lost == bool(event.cause)
            assert event.pid == self.alive.pop(number, None)
        else:
            assert event.pid == self.alive[number], "it runs"
            assert (last is WorkerStarted) == isinstance(event, WorkerReady), "it is ready first"
        self.lives[number] = type(event)

    @property
    def unfinished(self) -> int:
        """How many calls have not ended."""
        return self.calls[CallsSubmitted] - sum(self.calls[end] for end in ENDS)

    @property
    def retried(self) -> int:
        """How many runs were followed by another."""
        return self.calls[CallsRetried]

    @property
    def started(self) -> int:
        """How many calls were taken by workers."""
        return self.calls[CallsStarted]

    def those(self, kind: type[Event]) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]
