"""What the engine asks of a link to something that runs calls, and of who makes links.

:class:`.connection.Connection` is the link to a process of this machine, by pipes. Another one may
lead elsewhere. The engine knows a link by a number, which is that of one worker in the pool: it
gives it messages (:mod:`hybridexec.wire.messages`), and gets messages from it.

Who calls what:

=================================  ========================================================
on the turn holder's thread        all but what follows. The turn holder is the I/O thread, or
                                   for a moment a caller (:mod:`.inline_calls`), so nothing
                                   here may block, and nothing needs a lock of its own
on the I/O thread only             :meth:`Link.ended`, :meth:`Link.finish`, :meth:`Link.close`,
                                   :meth:`Launcher.connect`
on any thread                      ``pid``, ``process``, :meth:`Launcher.nodes`; the page is read
                                   by any, too
on a thread of its own             :meth:`Launcher.start`; on the caller's with "fork"
=================================  ========================================================

What must hold of a link:

- *In order, and at most once.* Messages arrive whole, in the order in which they were written, and
  none arrives twice. The far end takes calls in that order. It answers each call and each Recall
  once; a NotifyLow keeps it busy if it is answered, and to a Where nobody waits for the answer.
- *It ends once.* As soon as the far end is gone, or has not been heard of for too long, one of
  ``ends`` becomes readable. From then on no call of this link may start over there, and nothing
  arrives from it after :meth:`Link.close`. Who comes back does so with a new link, which gets a new
  number: so no late result is taken for another's.
- *What started.* The page's ``taken`` counts calls, in the order in which they were written. It
  is raised before the call can start, so that the calls beyond it have not started when the link
  has ended: they are given to others. A link whose far end shares no memory with this process has
  no page: then everything that was sent counts as started when it is lost, whether or not it had
  left this process (:mod:`..pool.page`). Those calls fail with :meth:`Link.lost`, unless
  ``on_worker_loss`` says that they may run again.
- *Results before the end.* When the link has ended, ``read(everything=True)`` returns what had been
  written before that, so that a call that was answered is not taken for lost.
- *Timeouts* are kept by the far end. For a worker with a page the engine helps, with an Expire and
  with :meth:`Link.kill`; for one without, it does not.

A link without descriptors of its own, because another thread reads for it, makes pipes to be woken
by. ``calls_fd``, ``results_fd`` and ``ends`` are waited for by different names: a socket's
descriptor is duplicated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from ... import native
from ...errors import ExecutorBroken, WorkerLost
from ...wire.frames import Frame
from ...wire.messages import ToWorker
from ...wire.shared import Part
from ..pool.page import Page


class Link(Protocol):
    """A link to one worker. See the module's docstring."""

    #: Why the worker has said that it cannot get ready, and at what; the engine notes it here.
    failure: ExecutorBroken | None
    failed_stage: str

    @property
    def pid(self) -> int | None:
        """The number of the worker's process, on its machine; None if it is no process."""

    @property
    def node(self) -> str:
        """The name of the machine that it is on; empty if that is this one."""

    @property
    def resident(self) -> int | None:
        """Its bytes in RAM; None if that is not known."""

    @property
    def process(self) -> Any:
        """That process as multiprocessing has it; None if it is none of this machine."""

    @property
    def page(self) -> Page | None:
        """What is known of the worker without asking it; None if that is nothing."""

    @property
    def results_fd(self) -> int:
        """Readable if there is something to :meth:`read`. The engine waits for it."""

    @property
    def since(self) -> float:
        """Since when there is a worker at the far end, in monotonic seconds; for statistics."""

    @property
    def bytes_sent(self) -> int:
        """How many were written so far, or are to be; for statistics."""

    @property
    def bytes_received(self) -> int:
        """How many were read so far; for statistics."""

    @property
    def calls_fd(self) -> int:
        """Writable if there is room for what is left to :meth:`flush`. The link has the poller wait
        for it while that matters."""

    @property
    def ends(self) -> Collection[int]:
        """What becomes readable when the link has ended. The engine waits for it."""

    @property
    def broken(self) -> bool:
        """Whether there will be nothing more to read but at the end."""

    def read(self, everything: bool = False) -> list[Frame]:
        """The frames that have arrived; with ``everything``, all that there will ever be."""

    def write(self, message: ToWorker, segments: Sequence[Part] = ()) -> None:
        """Queue a message; :meth:`flush` must follow. Urgent ones are to be read even while a call
        keeps the worker's hub."""

    def flush(self, there_is_room: bool = False) -> bool:
        """Write as much as fits; whether nothing is left. If something is, the engine is told by
        ``calls_fd`` that ``there_is_room``."""

    def kill(self, number: int) -> None:
        """End the worker, by this signal if it is a process; at least, end the link soon."""

    def ended(self) -> float:
        """One of ``ends`` is readable, or was. 0 if the link has ended; else the engine asks again
        soon, for so many seconds at most."""

    def finish(self) -> None:
        """The link has ended: make sure that the worker starts no call any more."""

    def never_ready(self, executable: str) -> ExecutorBroken:
        """Why the link has ended before the worker took a call; for :attr:`Launcher.executable`,
        see there."""

    def lost(self, running: int, calls: tuple[str, ...], goes_on: bool) -> WorkerLost:
        """Why it has ended while ``running`` calls had started, the first of which are ``calls``,
        in words. ``goes_on``: whether the executor does."""

    def close(self) -> None:
        """Let go of everything."""

    def take_logs(self, end: int | None) -> tuple[bytes, int]:
        """What the worker has logged and nobody has taken yet, up to the position that it has told,
        or all if it has ended; and how many records it has dropped so far. See
        :mod:`hybridexec.wire.log_ring`."""

    # -- for reports of hubs that do not run -------------------------------------------------------

    @property
    def state(self) -> str | None:
        """The state of the worker's main thread, as Linux names it; None if it is not known."""

    def request_dump(self) -> None:
        """Have the main thread's stack written, if that is harmless. Asked for only where the page
        tells that the hub does not run."""

    def take_dump(self) -> str:
        """What was written."""


class Node(Protocol):
    """A machine on which workers are started, if that is not this one. Read by any thread."""

    #: Its name, and its address; how many workers of each lane it has at most.
    name: str
    address: str
    places: int
    #: Seconds that a message took last to it and back; None if that is not known.
    round_trip: float | None
    #: Whether it is about to go.
    leaving: bool


class Launcher(Protocol):
    """Starts workers, or finds those that are there. :class:`..launch.launcher.Launcher` starts
    processes."""

    @property
    def method(self) -> str:
        """multiprocessing's name for how it starts them; "fork" is done on the thread that wants
        the worker, anything else on one of its own."""

    @property
    def executable(self) -> str:
        """What was run to start a worker, if anything was; for messages."""

    @property
    def worker_logs(self) -> bool:
        """Whether workers send their log records."""

    def start(self, number: int, lane: str, pressed: Callable[[], bool] | None = None) -> Any:
        """Have worker ``number``, and return what :meth:`connect` makes the link from. May block.

        Args:
            lane: of which kind it is to be.
            pressed: given on the I/O thread: whether there is something else to do.

        Raises:
            StartPostponed: ``pressed`` has said so.
            Exception: whatever kept it from starting.
        """

    def connect(self, started: Any, poller: native.Poller, /) -> Link:
        """The link to what was started, on the I/O thread; ``poller`` is the engine's."""

    def give_up(self, lane: str) -> None:
        """No start in this lane is wanted any more: those under way are to fail soon."""

    def nodes(self) -> Sequence[Node]:
        """The machines on which workers are started now; none if that is this one. On any
        thread."""

    def become_inert(self) -> None:
        """This process is a fork: start no more."""

    def close(self) -> None:
        """All links have ended: let go of everything."""
