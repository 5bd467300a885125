"""Messages: what parent and worker tell each other. Each is the head of a frame.

Runs on: who sends makes one; who receives has a table of handlers by kind, and calls the one for
the message with its fields.
Guarantees: kinds, names, and fields of both directions are written down here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

#: How a call ended. VALUE: a plain value; PICKLED: a payload; ERROR: ``(payload of the exception,
#: remote traceback, note, its type's name, its text)``; CANCELLED: dropped or stopped on request;
#: TIMED_OUT: its time was up; RETRIABLE: as ERROR, and the exception is one of those after which
#: the call may be tried again.
VALUE, PICKLED, ERROR, CANCELLED, TIMED_OUT, RETRIABLE = range(6)

#: One call's end: its id, how it ended, with what, and how many seconds it took if that is wanted.
Result = tuple[int, int, Any, float | None]


class Message:
    """Something to tell the other side."""

    __slots__ = ("head",)
    #: What the receiver's table has it under.
    kind: ClassVar[int]
    #: Whether it must be heard while a call keeps the worker's hub.
    urgent: ClassVar[bool] = False

    def __init__(self) -> None:
        #: What travels: the kind and the fields, in the order of the constructor's arguments.
        self.head: tuple[Any, ...] = (self.kind,)


class ToWorker(Message):
    """A message from the parent."""

    __slots__ = ()


class ToParent(Message):
    """A message from a worker."""

    __slots__ = ()


# -- parent to worker ---------------------------------------------------------------------------


class Calls(ToWorker):
    """Run these calls."""

    __slots__ = ()
    kind = 1

    def __init__(
        self, functions: Sequence[tuple[Any, ...]], spans: Sequence[tuple[Any, ...]]
    ) -> None:
        """
        Args:
            functions: ``(number, payload, needs)`` for each function that is introduced, with the
                numbers and names of what ``__main__`` must have before it is loaded; or, with a
                name for its needs, for one of these.
            spans: ``(function, how, first id, [item, ...], bare)`` for calls with consecutive ids.
                A function is a number that an earlier or the same message introduced, or a payload
                for one use. How to run it: see ``options.How``. An item is a tuple of plain
                arguments, or a payload of ``(args, kwargs)``; a bare item is the one argument
                itself, plain.
        """
        self.head = (1, functions, spans)


class NotifyLow(ToWorker):
    """Send :class:`LowWatermark` as soon as no more than ``low`` calls wait in the inbox."""

    __slots__ = ()
    kind = 2

    def __init__(self, low: int) -> None:
        self.head = (2, low)


class Cancel(ToWorker):
    """Drop these calls; stop them, too, if ``running`` and they have started."""

    __slots__ = ()
    kind = 3
    urgent = True

    def __init__(self, calls: list[int], running: bool) -> None:
        self.head = (3, calls, running)


class Recall(ToWorker):
    """Give back up to ``count`` calls that have not started, the newest first."""

    __slots__ = ()
    kind = 4
    urgent = True

    def __init__(self, count: int) -> None:
        self.head = (4, count)


class Reclaim(ToWorker):
    """These calls are not the worker's any more: it has not started them, and has not answered a
    :class:`Recall`. It may take others again."""

    __slots__ = ()
    kind = 5

    def __init__(self, number: int, calls: list[int]) -> None:
        """
        Args:
            number: how often the worker was kept from taking calls, see ``StatusPage.hold``.
        """
        self.head = (5, number, calls)


class Forget(ToWorker):
    """This function will not be called again."""

    __slots__ = ()
    kind = 6

    def __init__(self, number: int) -> None:
        self.head = (6, number)


class Stop(ToWorker):
    """Leave: nothing is outstanding."""

    __slots__ = ()
    kind = 7


class Expire(ToWorker):
    """This call's time is up, and its worker has not stopped it so far."""

    __slots__ = ()
    kind = 8
    urgent = True

    def __init__(self, call: int) -> None:
        self.head = (8, call)


class Where(ToWorker):
    """Say what the main thread is doing."""

    __slots__ = ()
    kind = 9
    urgent = True


# -- worker to parent ---------------------------------------------------------------------------


class Hello(ToParent):
    """Ready for calls."""

    __slots__ = ()
    kind = 1


class Failed(ToParent):
    """Cannot get ready, and why."""

    __slots__ = ()
    kind = 2

    def __init__(self, stage: str, text: str) -> None:
        self.head = (2, stage, text)


class Results(ToParent):
    """Calls have ended."""

    __slots__ = ()
    kind = 3

    def __init__(self, results: Iterable[Result], rows: Iterable[tuple[int, list[Any]]]) -> None:
        """
        Args:
            results: one by one.
            rows: ``(first id, [plain value, ...])`` for calls with consecutive ids.
        """
        self.head = (3, results, rows)


class LowWatermark(ToParent):
    """The answer to :class:`NotifyLow`: no more calls than that wait in the inbox."""

    __slots__ = ()
    kind = 4


class Recalled(ToParent):
    """The answer to :class:`Recall`."""

    __slots__ = ()
    kind = 5

    def __init__(self, calls: list[int]) -> None:
        self.head = (5, calls)


class Here(ToParent):
    """The answer to :class:`Where`."""

    __slots__ = ()
    kind = 6

    def __init__(self, call: int, stack: str) -> None:
        """
        Args:
            call: the one that has the CPU; 0 for none.
            stack: the main thread's, as text; empty if the hub itself had time to answer.
        """
        self.head = (6, call, stack)
