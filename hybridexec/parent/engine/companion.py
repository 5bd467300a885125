"""What is there for as long as an engine runs, and is not part of it.

Thread: see each method.
"""

from __future__ import annotations

from typing import Protocol


class Companion(Protocol):
    """Whoever is to know when an engine runs. None of this may fail, or wait for the engine."""

    def begin(self) -> None:
        """The engine has started; on the thread that started it."""

    def end(self) -> None:
        """It has ended; on any thread. It may have never started, or end twice."""

    def let_go(self) -> None:
        """This process is a fork, and the engine its parent's; on its only thread."""
