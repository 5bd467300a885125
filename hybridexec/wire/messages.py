"""Messages between parent and worker, each the head of a frame.

The sender makes an instance; the receiver has a table of handlers by kind, and calls the one for
the message with its fields.

Thread: any.
Guarantees: the kinds, names and fields of both directions are written down here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

#: How a call ended. VALUE: with a plain value; PICKLED: a payload; ERROR: ``(payload of the
#: exception, remote traceback, note, its type's name, its text)``; CANCELLED: dropped or stopped on
#: request; TIMED_OUT: its time was up; RETRIABLE: as ERROR, of a call that may be retried, followed
#: by the seconds until that, or None if they are for the parent to say.
VALUE, PICKLED, ERROR, CANCELLED, TIMED_OUT, RETRIABLE = range(6)

#: How one call ended: id, status, value, and the seconds it took if those are wanted.
Result = tuple[int, int, Any, float | None]

#: How calls with consecutive ids ended: the first id, their values, and the prelude of these if
#: they are fragments; if not, they are plain.
Row = tuple[int, list[Any], bytes | None]


#: Calls that are at the same place: how many, the ids of the first ones (0: what runs on the main
#: thread and is no call), and their frames, the innermost last: file, line and function.
StackGroup = tuple[int, list[int], list[tuple[str, int, str]]]


class Message:
    """A message to the other side."""

    __slots__ = ("head",)
    #: Its key in the receiver's table.
    kind: ClassVar[int]
    #: Whether it must be heard while a call keeps the worker's hub.
    urgent: ClassVar[bool] = False

    def __init__(self) -> None:
        #: What is sent: the kind and the fields, in the order of the constructor's arguments.
        self.head: tuple[Any, ...] = (self.kind,)

    @property
    def distinct(self) -> bool:
        """Whether no value in it occurs twice, as far as is known."""
        return False


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
            functions: ``(number, payload, needs)`` for each function that is introduced, where
                needs are the numbers and names of the pieces that ``__main__`` must have before it
                is unpickled; for such a piece, needs is its name.
            spans: ``(function, how, first id, [item, ...], bare, prelude, since)`` for calls with
                consecutive ids, the first of which the parent has had since then, in monotonic
                seconds. A function is a number that this message or an earlier one
                introduced, or a payload for one use. How to run it: see ``options.How``. Without a
                prelude, an item is a tuple of plain arguments, or a payload of ``(args, kwargs)``;
                a bare item is the one argument itself, plain. With a prelude, bytes are a fragment:
                of the tuple of arguments, or if it is bare, of the one argument.
        """
        self.head = (1, functions, spans)

    @property
    def distinct(self) -> bool:
        """Whether all that is passed are fragments."""
        return all(span[5] is not None for span in self.head[2])


class NotifyLow(ToWorker):
    """Send :class:`LowWatermark` as soon as no more than ``low`` calls wait in the inbox."""

    __slots__ = ()
    kind = 2

    def __init__(self, low: int) -> None:
        self.head = (2, low)


class Cancel(ToWorker):
    """Drop those of these calls that have not started; stop the others too if ``running``."""

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
    """Drop these calls, which the worker has not started, and which are sent elsewhere because it
    did not answer a :class:`Recall`. It may take calls again."""

    __slots__ = ()
    kind = 5

    def __init__(self, number: int, calls: list[int]) -> None:
        """
        Args:
            number: the number of the hold that this ends; see ``StatusPage.hold``.
        """
        self.head = (5, number, calls)


class Forget(ToWorker):
    """Forget this function: it will not be called again."""

    __slots__ = ()
    kind = 6

    def __init__(self, number: int) -> None:
        self.head = (6, number)


class Stop(ToWorker):
    """End: no call is outstanding."""

    __slots__ = ()
    kind = 7


class Expire(ToWorker):
    """Interrupt this call: its time is up, and the hub has not stopped it."""

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

    def __init__(self, modules: tuple[str, ...]) -> None:
        """
        Args:
            modules: modules of which it is to be said whether they are loaded.
        """
        self.head = (9, modules)


class Follow(ToWorker):
    """The parent's logging has changed."""

    __slots__ = ()
    kind = 10

    def __init__(self, tree: tuple[Any, ...]) -> None:
        """
        Args:
            tree: what it is like, see ``log_tree.Tree``.
        """
        self.head = (10, tree)


class ShowStacks(ToWorker):
    """Say where the running calls are."""

    __slots__ = ()
    kind = 11
    urgent = True


class More(ToWorker):
    """Items of a streaming call have been fetched: it may yield more."""

    __slots__ = ()
    kind = 12

    def __init__(self, call: int, fetched: int) -> None:
        """
        Args:
            fetched: how many, since its beginning.
        """
        self.head = (12, call, fetched)


# -- worker to parent ---------------------------------------------------------------------------


class Hello(ToParent):
    """Ready for calls."""

    __slots__ = ()
    kind = 1


class Failed(ToParent):
    """The worker cannot get ready, and why."""

    __slots__ = ()
    kind = 2

    def __init__(self, stage: str, text: str) -> None:
        self.head = (2, stage, text)


class Results(ToParent):
    """Calls have ended."""

    __slots__ = ()
    kind = 3

    def __init__(self, results: Iterable[Result], rows: Iterable[Row]) -> None:
        """
        Args:
            results: one by one, see :data:`Result`.
            rows: many at once, see :data:`Row`.
        """
        self.head = (3, results, rows)

    @property
    def distinct(self) -> bool:
        """Whether all that is returned are fragments."""
        return not self.head[1] and all(row[2] is not None for row in self.head[2])


class LowWatermark(ToParent):
    """The answer to :class:`NotifyLow`: no more than ``low`` calls wait in the inbox."""

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

    def __init__(self, call: int, stack: str, loaded: list[str]) -> None:
        """
        Args:
            call: the one that has the CPU; 0 for none.
            stack: the main thread's, as text; empty if the hub itself had time to answer.
            loaded: those of the modules that are loaded.
        """
        self.head = (6, call, stack, loaded)


class Logged(ToParent):
    """There are log records in the ring."""

    __slots__ = ()
    kind = 7

    def __init__(self, end: int) -> None:
        """
        Args:
            end: the position up to which they are there, see :mod:`.log_ring`.
        """
        self.head = (7, end)


class Stacks(ToParent):
    """The answer to :class:`ShowStacks`."""

    __slots__ = ()
    kind = 8

    def __init__(self, current: int, groups: Sequence[StackGroup], more: int) -> None:
        """
        Args:
            current: the call that keeps the main thread; 0 for none.
            groups: where calls are, see :data:`StackGroup`.
            more: how many other calls run.
        """
        self.head = (8, current, groups, more)


class Items(ToParent):
    """Streaming calls have yielded."""

    __slots__ = ()
    kind = 9

    def __init__(self, yielded: Sequence[tuple[int, bool, list[Any]]]) -> None:
        """
        Args:
            yielded: a call, whether its items are payloads or else plain, and the items, in the
                order in which they were yielded. A call may be there several times.
        """
        self.head = (9, yielded)
