"""End a long loop well when the user or the system asks for it."""

import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Stopped(BaseException):
    """Ctrl-C (SIGINT) or SIGTERM: finish what is at hand and end."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        #: What a shell expects of a program that a signal ended.
        self.exit_code = 128 + signum


class StopSignals:
    """Turns SIGINT and SIGTERM into Stopped, raised only while ``during`` waits for a result.

    So no result is half written. A second signal ends this process at once.
    """

    def __init__(self) -> None:
        self._signum = 0
        self._waiting = False
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._signum:
            os._exit(128 + signum)
        self._signum = signum
        if self._waiting:
            raise Stopped(signum)

    def during(self, results: Iterable[T]) -> Iterator[T]:
        """Yield the results; a signal ends the wait for the next one."""
        iterator = iter(results)
        while True:
            try:
                self._waiting = True
                if self._signum:
                    raise Stopped(self._signum)
                result = next(iterator)
            except StopIteration:
                return
            finally:
                self._waiting = False
            yield result
