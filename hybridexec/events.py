"""What happens in an executor, as typed events.

Calls are told of by number: an event stands for all calls that went the same way since the last
time, so a million calls are a few thousand events. Counts add up: as far as a listener has been
told, ::

    submitted == finished + failed + timed out + cancelled + lost + those that have not ended

where "submitted" is the sum of the counts of all :class:`CallsSubmitted`, and so on. A call that
runs again is counted once more in :class:`CallsRetried` for each further run, and ends once.

All times are those of :func:`time.monotonic`, in seconds. ``pid`` is a worker's process id, or None
if it is not known; ``node`` is the name of its machine, for workers of a ``ClusterExecutor``, else
empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .drivers import advice
from .process import Process

#: How many calls a message names at most.
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened.

    Attributes:
        at: when the executor took note, in monotonic seconds. For an inline call whose caller waits
            for it, that may be a quarter of a second late.
    """

    at: float


@dataclass(frozen=True, slots=True)
class CallsEvent(Event):
    """Something that has happened to calls.

    Attributes:
        count: to how many.
    """

    count: int


@dataclass(frozen=True, slots=True)
class CallsSubmitted(CallsEvent):
    """Calls are to be run.

    Attributes:
        function: the function's name.
    """

    function: str


@dataclass(frozen=True, slots=True)
class CallsStarted(CallsEvent):
    """A worker has begun calls, or thrown away ones that were cancelled before it got to them.

    It is told when something else is, so at the latest with the calls' ends. A call that runs again
    starts again.

    Attributes:
        pid: the worker's.
        node: the name of that worker's machine; empty if it is this one.
    """

    pid: int | None
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class CallsRetried(CallsEvent):
    """Runs of calls came to nothing, and the calls are to run again.

    Attributes:
        function: the function's name.
        pid: that of the worker that ran them.
        error: the type of what ended those runs, with its module (``"builtins.OSError"``);
            ``"CallTimeout"`` if that was their timeout, ``"WorkerLost"`` or ``"NodeLost"`` if it
            was their worker's end.
        text: its text.
        node: the name of that worker's machine; empty if it is this one.
    """

    function: str
    pid: int | None
    error: str
    text: str
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class CallsFinished(CallsEvent):
    """Calls have returned.

    Attributes:
        function: the function's name.
        pid: that of the worker that ran them.
        node: the name of that worker's machine; empty if it is this one.
    """

    function: str
    pid: int | None
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class CallsFailed(CallsEvent):
    """Calls have raised.

    Attributes:
        function: the function's name.
        pid: that of the worker that ran them.
        error: the exception's type, with its module: ``"builtins.OSError"``.
        text: the exception's text.
        traceback: the first one's, as printed in the worker.
        node: the name of that worker's machine; empty if it is this one.
    """

    function: str
    pid: int | None
    error: str
    text: str
    traceback: str
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class CallsTimedOut(CallsEvent):
    """Calls have ended because their ``options(timeout=...)`` was up.

    Attributes:
        function: the function's name.
        pid: that of the worker that ran them.
        node: the name of that worker's machine; empty if it is this one.
    """

    function: str
    pid: int | None
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class CallsCancelled(CallsEvent):
    """Calls were cancelled, before they ran or while they did.

    Attributes:
        function: the function's name.
    """

    function: str


@dataclass(frozen=True, slots=True)
class CallsLost(CallsEvent):
    """Calls have ended because their worker has, or because no call can run any more.

    Attributes:
        function: the function's name.
        pid: that of the worker that ran them; None also if none did.
        error: ``"WorkerLost"``, ``"NodeLost"`` or ``"ExecutorBroken"``.
        text: the error's text.
        node: the name of that worker's machine; empty if it is this one.
    """

    function: str
    pid: int | None
    error: str
    text: str
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class CallsAbandoned(CallsEvent):
    """Cancelled calls have not ended within ``timeout_grace``, and keep their slots until they do;
    in the thread lane, their worker is replaced, and is killed when its other calls have ended.

    Attributes:
        pid: that of the worker that runs them.
        calls: each in a few words.
        lane: which calls it runs: those of ``"greenlet"``, ``"async"`` or ``"thread"``.
        node: the name of that worker's machine; empty if it is this one.
    """

    pid: int | None
    calls: tuple[str, ...]
    lane: str = "greenlet"
    node: str = field(default="", kw_only=True)

    @property
    def message(self) -> str:
        """What the log says of it."""
        named, more = ", ".join(self.calls[:_MAX_NAMED]), len(self.calls) - _MAX_NAMED
        if more > 0:
            named += f" and {more} more"
        said = (
            f"{Process(self.pid, self.node)} still runs what was cancelled, and did not end within "
            f"timeout_grace: {named}. "
        )
        why = (
            " What stops a call is an exception, which a bare except or except BaseException "
            "swallows, and which C code does not see"
        )
        if self.lane == "thread":
            return (
                f"{said}Another takes its place, and it is killed when its other calls have "
                f"ended.{why}"
            )
        return (
            f"{said}Each keeps its slot until it ends.{why}. With a timeout, such a call ends all "
            "the same"
        )


@dataclass(frozen=True, slots=True)
class WorkerEvent(Event):
    """Something that has happened to a worker.

    Attributes:
        worker: its number: the executor's first is 1, and none is used twice.
        pid: its process id; None also if its process could not be started.
        node: the name of its machine; empty if it is this one.
    """

    worker: int
    pid: int | None
    node: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class WorkerStarted(WorkerEvent):
    """A worker's process exists.

    Attributes:
        lane: which calls it runs: those of ``"greenlet"``, ``"async"`` or ``"thread"``.
    """

    lane: str


@dataclass(frozen=True, slots=True)
class WorkerReady(WorkerEvent):
    """A worker can be sent calls."""


@dataclass(frozen=True, slots=True)
class WorkerBlocked(WorkerEvent):
    """A worker's hub does not run, so none of its other calls can.

    Attributes:
        seconds: for how long it has not.
        call: the call that keeps it from running, in a few words; empty if that is not known.
        stack: that of the worker's main thread, as text; empty if that is not known.
        why: what keeps it from running, as far as that is known, in words.
        no_stack: why no stack is known; empty if one is.
        unfinished: how many calls it has.
        libraries: those that it has loaded which wait in C, if it waits: by the names of their
            sections on the documentation's page "Doctor".
        lane: which calls it runs: those of ``"greenlet"``, ``"async"`` or ``"thread"``.
    """

    seconds: float
    call: str
    stack: str
    why: str
    no_stack: str
    unfinished: int
    libraries: tuple[str, ...] = ()
    lane: str = "greenlet"

    @property
    def message(self) -> str:
        """What the log says of it."""
        said = (
            f"the hub of {Process(self.pid, self.node)} has not run for {self.seconds:.1f} s: "
            f"{self.why}; unfinished calls there: {self.unfinished}. "
            + advice(self.stack, self.libraries, "blocked", self.lane)
        )
        stack = self.stack.rstrip()
        return (
            f"{said} Its stack:\n{stack}" if stack else f"{said} No stack is known: {self.no_stack}"
        )


@dataclass(frozen=True, slots=True)
class WorkerUnblocked(WorkerEvent):
    """The hub of a worker that was blocked runs again.

    Attributes:
        seconds: for how long it had not.
    """

    seconds: float

    @property
    def message(self) -> str:
        """What the log says of it."""
        return f"the hub of {Process(self.pid, self.node)} runs again, after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class WorkerHeldUp(WorkerEvent):
    """The calls of a worker wait one after another, because they wait where gevent cannot let
    others run. Each place in the code is told of once.

    Attributes:
        seconds: for how long that has been seen.
        looks: in how many of the looks taken in that time one was found to be waiting.
        call: one of them, in a few words.
        stack: where it was waiting, as text.
        unfinished: how many calls the worker has.
        libraries: those that it has loaded which wait in C: by the names of their sections on the
            documentation's page "Doctor".
        lane: which calls it runs: those of ``"greenlet"``, ``"async"`` or ``"thread"``.
    """

    seconds: float
    looks: int
    call: str
    stack: str
    unfinished: int
    libraries: tuple[str, ...] = ()
    lane: str = "greenlet"

    @property
    def message(self) -> str:
        """What the log says of it."""
        return (
            f"the calls of {Process(self.pid, self.node)} wait one after another: in "
            f"{self.looks} of the looks taken in the last {self.seconds:.0f} s, one was waiting "
            f"where {'gevent' if self.lane == 'greenlet' else 'its loop'} cannot let others run, "
            f"{self.call} for one; unfinished calls there: {self.unfinished}. "
            f"{advice(self.stack, self.libraries, 'held-up', self.lane)} Its stack:\n{self.stack}"
        )


@dataclass(frozen=True, slots=True)
class WorkerRecycled(WorkerEvent):
    """A worker gets no more calls: it finishes those it has, and another takes its place, unless
    there is no need for one.

    Attributes:
        cause: ``"max_tasks_per_child"``, ``"max_memory_per_child"``; ``"idle_timeout"`` for one
            that had no calls; ``"abandoned"`` for one of the thread lane in which cancelled calls
            go on, see :class:`CallsAbandoned`; ``"resized"`` for one that was too many, see
            :func:`.get_reusable_executor`; or ``"quarantine"`` for one that was started for calls
            whose workers had died.
    """

    cause: str


@dataclass(frozen=True, slots=True)
class WorkerEnded(WorkerEvent):
    """A worker's process has ended, or could not be started.

    Attributes:
        lost: whether that was not planned.
        cause: if so how, in words; else empty.
    """

    lost: bool
    cause: str


@dataclass(frozen=True, slots=True)
class WorkerStartFailed(WorkerEvent):
    """A worker could not be started. It is tried again.

    Attributes:
        error: why, in words.
    """

    error: str

    @property
    def message(self) -> str:
        """What the log says of it."""
        return f"{self.error}; it is tried again"


@dataclass(frozen=True, slots=True)
class NodeEvent(Event):
    """Something that has happened to a node: a machine on which a ``ClusterExecutor`` has workers.

    Attributes:
        node: its name; its address, if it could not be asked for that.
        address: that of its Dask worker.
    """

    node: str
    address: str


@dataclass(frozen=True, slots=True)
class NodeJoined(NodeEvent):
    """A node can be used.

    Attributes:
        places: how many workers of each lane it has at most.
    """

    places: int

    @property
    def message(self) -> str:
        """What the log says of it."""
        return f"node {self.node} has joined, with {self.places} places for workers"


@dataclass(frozen=True, slots=True)
class NodeLeft(NodeEvent):
    """The connection to a node has ended, and with it all of the executor's workers there.

    Attributes:
        lost: whether that was not planned.
        why: what has ended it, in words.
    """

    lost: bool
    why: str

    @property
    def message(self) -> str:
        """What the log says of it."""
        if self.lost:
            return f"node {self.node} was lost: {self.why}"
        return f"node {self.node} has left: {self.why}"


@dataclass(frozen=True, slots=True)
class NodeRefused(NodeEvent):
    """A node cannot be used. It is tried again every few seconds; that is told once.

    Attributes:
        why: what is wrong with it, in words.
    """

    why: str

    @property
    def message(self) -> str:
        """What the log says of it."""
        return f"node {self.node} cannot be used: {self.why}"


@dataclass(frozen=True, slots=True)
class ExecutorBroke(Event):
    """No call can run any more.

    Attributes:
        error: why, in words.
    """

    error: str

    @property
    def message(self) -> str:
        """What the log says of it."""
        return self.error


#: All kinds of events. What happens to a call is told in this order.
KINDS: tuple[type[Event], ...] = (
    CallsSubmitted,
    CallsStarted,
    CallsRetried,
    CallsFinished,
    CallsFailed,
    CallsTimedOut,
    CallsCancelled,
    CallsLost,
    CallsAbandoned,
    WorkerStarted,
    WorkerReady,
    WorkerBlocked,
    WorkerUnblocked,
    WorkerHeldUp,
    WorkerRecycled,
    WorkerEnded,
    WorkerStartFailed,
    NodeJoined,
    NodeLeft,
    NodeRefused,
    ExecutorBroke,
)


def made(kind: type[Event], at: float, *fields: Any) -> Event:
    """An event of this kind.

    Args:
        fields: its others, in their order, with a :class:`.Process` for a pid and a node.
    """
    place = next((place for place, each in enumerate(fields) if type(each) is Process), None)
    if place is None:
        return kind(at, *fields)
    process = fields[place]
    told: Any = kind  # each has fields of its own
    event: Event = told(at, *fields[:place], process.pid, *fields[place + 1 :], node=process.node)
    return event


def names_of(classes: type[Event] | Iterable[type[Event]] | None = None) -> frozenset[str]:
    """The names of those kinds of events that are, or derive from, one of these classes; of all
    kinds for None.

    Raises:
        TypeError: one of them is no class of events.
    """
    if classes is None:
        wanted: tuple[Any, ...] = (Event,)
    elif isinstance(classes, Iterable):
        wanted = tuple(classes)
    else:
        wanted = (classes,)
    for each in wanted:
        if not (isinstance(each, type) and issubclass(each, Event)):
            raise TypeError(
                f"events must be classes of hybridexec.events, such as CallsFailed, not {each!r}"
            )
    return frozenset(kind.__name__ for kind in KINDS if issubclass(kind, wanted))
