"""The I/O thread, as a thread of the system's.

Runs on: any thread starts it.
Guarantees: there is one at most, whatever has interrupted those who started it: Ctrl-C may come
when a thread has been started and before anybody knows.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import native


class IoThread:
    """Runs ``run``; if there can be no thread, ``give_up`` is called in its place."""

    def __init__(self, run: Callable[[], None], give_up: Callable[[Exception], None]) -> None:
        self._run = run
        self._give_up = give_up
        # Acquired, for good, by who does the one or the other.
        self._turnstile = native.original("_thread", "allocate_lock")()
        self._ident: int | None = None

    def start(self) -> None:
        """Start it; again, if that was interrupted.

        Raises:
            Exception: the process is out of threads, or the interpreter is exiting.
        """
        try:
            native.start_thread(self._enter, "hybridexec-io")
        except Exception as error:
            if self._turnstile.acquire(blocking=False):
                self._give_up(error)
            raise

    def is_current(self) -> bool:
        """Whether the calling thread is it."""
        return self._ident == native.ident()

    def _enter(self) -> None:
        if self._turnstile.acquire(blocking=False):
            self._ident = native.ident()
            self._run()
