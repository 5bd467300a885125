"""How an executor, or a view of one, is watched: numbers, events, and what people look at.

Thread: callers' threads.
Guarantees: a view tells of its whole executor; what draws is loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .awaited import AwaitedCalls

if TYPE_CHECKING:
    import os

    from rich.console import Console

    from .events import Event
    from .parent.engine.observation import Observation
    from .stats import ExecutorStats
    from .watching.live import Live
    from .watching.page.dashboard import Dashboard


class Watchable(AwaitedCalls):
    """What calls are made through, and may be watched."""

    def stats(self) -> ExecutorStats:
        """Return a snapshot of what the executor is doing."""
        return self._assembly.watched.stats()

    def observe(
        self,
        observer: Callable[[Event], object],
        *,
        events: type[Event] | Iterable[type[Event]] | None = None,
    ) -> Observation:
        """Have ``observer`` called with each event from here on: see :mod:`hybridexec.events`.

        It is called on a thread of its own, with one event at a time, in order, so it may take its
        time, and keeps no call waiting. When ten thousand events wait for it, further ones are
        counted and dropped. What it raises is logged, once. The end of the executor waits until it
        has had all events, for five seconds at most.

        Args:
            observer: is called with an event.
            events: the classes of events that it wants, or what these derive from (``CallsEvent``,
                say); None for all. Calls are counted for events only while somebody wants them.

        Returns:
            What ends it, with ``close()``, and knows how many were ``dropped``.

        Raises:
            TypeError: the observer cannot be called, or one of ``events`` is no class of events.
        """
        from .events import names_of

        if not callable(observer):
            raise TypeError(f"an observer must be callable, not {type(observer).__name__}")
        return self._assembly.engine.observers.observe(observer, names_of(events))

    def live(self, *, console: Console | None = None) -> Live:
        """Return a context manager that shows the executor while a block runs.

        In a terminal that is a table that is redrawn four times a second: the workers, how many
        calls ended in each of the last seconds, how long they took, what runs for longest, and what
        has failed. What the program prints or logs meanwhile is shown above it. In a notebook it is
        the cell's output; elsewhere a line is written every five seconds. When the block ends,
        however it does, the last state is left where it is.

        Needs rich (``pip install 'hybridexec[rich]'``).

        Args:
            console: the ``rich.console.Console`` to show it on; by default one for standard error.

        Raises:
            ImportError: rich is not installed.
        """
        from . import need

        need.rich("executor.live()")
        from functools import partial

        from .watching.live import Live
        from .watching.view import view

        return Live(partial(view, self._assembly.watched), console)

    def dashboard(
        self, port: int = 0, *, address: str = "127.0.0.1", allow_remote: bool = False
    ) -> Dashboard:
        """Serve a page for browsers that shows the executor live, until the executor ends.

        It has plots, over time, of calls per second by outcome, and for each worker of calls in
        flight, hub lag and memory; histograms of how long calls ran and waited; the lives of
        workers, and how they ended; failures with their tracebacks; and the slowest calls. All of
        it goes back to the executor's start, whenever the page is opened.

        Only programs on this machine reach it, and only with the token in its ``url``. It runs on a
        thread of its own.

        Needs bokeh (``pip install 'hybridexec[dashboard]'``).

        Args:
            port: where to serve it; 0 for a port that is free.
            address: that of the network interface to serve it on.
            allow_remote: whether that may be one that other machines reach. **Who knows the url, or
                can listen to what is sent, then sees what calls are given and what they raise**: it
                is not encrypted. A tunnel is safer, ``ssh -L 8787:127.0.0.1:PORT HOST``, and needs
                neither of these arguments.

        Returns:
            What has its ``url``, and a ``close()``.

        Raises:
            ImportError: bokeh is not installed.
            OSError: the port is taken, say.
            RuntimeError: the executor has ended, or gevent has patched this process.
            ValueError: other machines reach ``address``, and ``allow_remote`` was not given.
        """
        from . import need

        need.bokeh("executor.dashboard()")
        from .watching.page.dashboard import Dashboard

        return Dashboard(self._assembly.watched, port, address, allow_remote)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write what :meth:`dashboard` shows into a file that needs nothing else, for a browser.

        It can be written at any time, and after the executor's end. It has some 2 MB, however long
        the run was, and names failed and slow calls with their arguments, as errors' notes do.

        Needs bokeh (``pip install 'hybridexec[dashboard]'``).

        Args:
            path: that of the file, HTML; what is there is replaced.

        Raises:
            ImportError: bokeh is not installed.
        """
        from . import need

        need.bokeh("executor.report()")
        from .watching.page.report import write

        write(self._assembly.watched, path)
