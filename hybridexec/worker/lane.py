"""The contract of a kind of worker: between the half that all kinds share, and the *lane*, which
runs the calls.

The shared half (:mod:`.main`, :mod:`.inbound`, :mod:`.outbox`, :mod:`.helper`) begins and ends
the process, reads and writes its pipes, and knows a lane by this file only. A new kind of worker is
a class that is a :class:`Lane`, and a module that is a :class:`Kind`, which :mod:`.kinds` finds by
its lane's name. The one for greenlets is :mod:`.greenlets.lane`.

Threads
-------
*Main* is the process's main thread. It belongs to the lane: calls run on it, or on threads that it
starts. *Helper* is a native thread of the shared half, which reads and writes whenever a call keeps
the main thread from it. No user code runs there. *Reader* is whichever of the two reads the call
pipe: it holds ``Inbound``'s lock, so there is one at a time.

=============================== ========= ==========================================================
called                          thread    and then
=============================== ========= ==========================================================
``set_up``                      main      once, before the first call
``serve``                       main      once; it returns when the parent has said stop
``cancel expire more stop``     reader    for each such message, in the order in which they came
``look``                        main      after each read that the main thread has made
``wake``                        helper    after each read that the helper thread has made
``end_turn``                    helper    whenever it has slept, which is every 8 ms while there is
                                          something to read, to write or to stop
``is_stopping insist``          helper    likewise; see there
=============================== ========= ==========================================================

What the reader and the helper thread call must not block, wait or run user code. It notes what is
to be done, in single operations that the GIL makes atomic, and leaves the rest to the main thread's
next ``look``, or to whatever ``wake`` has it do. ``look`` is called without the lock, and does what
the lane likes, as long as ``on_readable`` returns soon. If one of these raises, the worker ends.

What a lane guarantees
----------------------
**Take.** It takes calls from the front of the inbox: of ``Inbox.head()``, by ``items.popleft()``,
which fails if the reader was faster. ``TAKEN`` on the status page is raised before that, and set
back if the call was not to be had: what the parent believes to have started is never less than what
has. It takes none while ``HELD`` on the page, read when ``TAKEN`` is raised, differs from
``Inbox.released``; a ``look`` or ``wake`` follows when that is over. It drops a call that is in
``Inbox.dropped``, with ``CANCELLED`` as its result. It puts out a ``LowWatermark`` as soon as
``Inbox.asked`` and ``TAKEN`` is ``Inbox.low_at``.

**Run.** No more calls run at once than the page has slots; the page tells which, and since when.
Each runs in a copy of the context that ``set_up`` has left, with the function that
``Functions.load`` returns, and ends with exactly one result, whatever it raises: see
:mod:`hybridexec.wire.messages` for the ways to end. Results are put out on the main thread, by
``Outbox.put``, ``put_first`` and ``put_late``; or, where calls run on other threads, on these, by
``Outbox.add`` and ``push``, which no lock keeps waiting. Such a lane takes calls on one thread at a
time, and tells ``Vitals`` of them likewise. The main thread's loop writes ``HEARTBEAT`` every
0.1 s, unless a call keeps it. ``Functions.forgotten`` is cleared there, or where calls run, because
that may run user code.

**Stream.** A call whose job has a window (``Job.window``) returns something to iterate. Its
function is what ``Functions.streaming``, which the lane sets, makes of the one that was sent: it
sends the items, waits while too many are under way, and returns what the generator has returned.
For calls that wait as plain functions do, :mod:`.sources` has it all, given what tells the call
that runs, what puts into the outbox, what makes an event that calls can wait for, and what was
raised in a call to stop it. Such a call's result is not put into a row.

**Stop.** What stops a call is raised in that call and in no other, and once. One that cannot be
stopped is no fault: the parent has a grace, after which it ends the worker.

**Say where.** Whichever call keeps the main thread is named, without its help; where none can,
``CURRENT`` on the page is ``SHARED``. Whoever asks is told for which call it runs.

A process that a call forks is no worker: the lane lets go of the page, the inbox and the outbox
there (``Outbox.let_go``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..wire.contract import Boot
    from ..wire.messages import StackGroup
    from ..wire.page import StatusPage
    from .functions import Functions
    from .inbox import Inbox
    from .outbox import Outbox


class Lane(Protocol):
    """Runs the calls in the inbox."""

    # -- main thread --------------------------------------------------------------------------

    def set_up(
        self, initialize: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> bool:
        """Call ``initialize``, as calls are called, which returns what the initializer has
        returned; if it raises, call ``failed`` with that, in the same place. Whether all is
        well."""

    def serve(self, calls_fd: int, on_readable: Callable[[], None]) -> None:
        """Run calls until the parent has said stop, and call ``on_readable`` whenever ``calls_fd``
        is readable."""

    def look(self) -> None:
        """The main thread has read: see to what has come."""

    # -- who reads the call pipe --------------------------------------------------------------

    def cancel(self, calls: list[int], running: bool) -> None:
        """Drop those calls that have not started; with ``running``, stop those that have."""

    def expire(self, call: int) -> None:
        """Stop a call whose time is up, unless it has ended or been told."""

    def more(self, call: int, fetched: int) -> None:
        """So many of a call's items have been fetched since its beginning: it may yield more. It
        may have ended."""

    def stop(self) -> None:
        """End :meth:`serve`: nothing is outstanding."""

    def where(self) -> tuple[int, str]:
        """The call that keeps the main thread, and that thread's stack, as text. The call is 0 if
        it is none, and the stack empty if it is the main thread that asks: then nothing keeps it.
        """

    def stacks(self) -> tuple[int, list[StackGroup], int]:
        """Where the running calls are, those that wait included: the call that keeps the main
        thread, or 0; groups of calls; how many other calls run. What is told is bounded, whatever
        runs. Calls go on meanwhile, so each stack is that of a moment."""

    # -- any thread --------------------------------------------------------------------------

    @property
    def calling(self) -> Callable[[], str]:
        """What tells the call that the current thread of control runs, in a few words; it returns
        an empty text if there is none. A log record asks."""

    # -- the helper thread --------------------------------------------------------------------

    def wake(self) -> None:
        """The helper thread has read: have main see to what has come, as soon as it can."""

    def end_turn(self) -> None:
        """Time has passed: let calls that have kept the main thread not begin another before its
        loop has seen to the rest."""

    @property
    def is_stopping(self) -> bool:
        """Whether a call is to be stopped that may not have heard of it: as long as that is so, the
        helper thread comes back every few milliseconds, and now and then calls :meth:`insist`."""

    def insist(self) -> bool:
        """Try once more to stop what keeps the main thread; whether there may be more to stop."""


class Watcher(Protocol):
    """Calls back when a descriptor is ready, or a time is over, for as long as it is started."""

    @property
    def active(self) -> bool:
        """Whether it is started."""

    def start(self, callback: Callable[[], None], /) -> None:
        """Call ``callback`` on the main thread whenever that is so."""

    def stop(self) -> None:
        """Do not any more."""


class Loop(Protocol):
    """What runs on the main thread besides calls, as the outbox needs it."""

    def run_callback(self, callback: Callable[[], None], /) -> object:
        """On the main thread: call ``callback`` there when the turn is over, after calls that are
        about to run, if they wait or end soon."""

    def io(self, fd: int, events: int, /) -> Watcher:
        """What watches a descriptor; ``events`` is 1 for readable, 2 for writable."""

    def timer(self, after: float, /) -> Watcher:
        """What calls back once, so many seconds after it was started."""


class Kind(Protocol):
    """A kind of worker: a module with these functions, which are called in this order, on the main
    thread."""

    def prepare(self, boot: Boot) -> None:
        """Make this a process in which calls of this kind can run. What is raised is told to the
        parent."""

    def loop(self, factory: Callable[[], object] | None) -> Loop:
        """The main thread's.

        Args:
            factory: makes the event loop, where that is the user's choice; None if they left it to
                the lane.
        """

    def new_lock(self) -> AbstractContextManager[Any]:
        """A reentrant lock for which calls wait as they wait for anything."""

    def make(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        call_helper: Callable[[], None],
    ) -> Lane:
        """The process's lane, ready to be told to :meth:`~Lane.set_up`.

        Args:
            page: where to write what runs.
            inbox: where calls are taken from.
            functions: those that they name.
            outbox: what results are put into.
            call_helper: has the helper thread look, within milliseconds; for any thread.
        """
