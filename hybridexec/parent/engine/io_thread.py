"""The I/O thread, as a native thread.

Thread: any thread starts it.
Guarantees: at most one runs, even if Ctrl-C interrupts a start after the thread was created and
before the starter knows of it, so that it is started again.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import native


class IoThread:
    """Runs ``run`` on a thread; if none can be started, calls ``give_up`` instead."""

    def __init__(self, run: Callable[[], None], give_up: Callable[[Exception], None]) -> None:
        self._run = run
        self._give_up = give_up
        # Acquired, and never released, by the thread that calls one of the two.
        self._turnstile = native.original("_thread", "allocate_lock")()
        self._ident: int | None = None

    def start(self) -> None:
        """Start the thread, even if Ctrl-C interrupts this.

        Raises:
            Exception: the process is out of threads, or the interpreter is exiting.
        """
        try:
            self._start()
        except BaseException as error:
            if not isinstance(error, Exception):
                self._start()  # if a thread was created, this one does nothing
            raise

    def _start(self) -> None:
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
