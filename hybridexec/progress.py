"""How far the calls of one ``map``, or of a set of futures, have come: what ``progress=`` shows.

Thread: any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """How far calls have come. Its text is one line for people.

    Attributes:
        total: how many calls there are in all; None as long as that is not known, because an
            iterable has no length and was not read to its end.
        done: calls that have ended, whether anybody has fetched their results or not. Those that
            were cancelled are not counted.
        failed: how many of these ended with an error: their own, that their time was up, or that
            their worker was lost.
        retried: runs that came to nothing and were followed by another of the same call. Of
            futures, they are counted when the call ends.
        running: calls that workers are running now.
        per_second: calls that end per second: over the last ten seconds, or as long as the last
            twenty calls took, if that is longer; at the end, over the whole time.
        eta: seconds until all have ended, at that rate; None as long as that is not known, and if
            they will not, because the iteration was left before.
    """

    total: int | None
    done: int
    failed: int
    retried: int
    running: int
    per_second: float
    eta: float | None

    def __str__(self) -> str:
        parts = [f"{self.done:,} done"]
        if self.total is not None:
            share = self.done / self.total if self.total else 1.0
            parts = [f"{self.done:,} of {self.total:,} done ({int(100 * share)} %)"]
        for count, what in (
            (self.failed, "failed"),
            (self.retried, "retried"),
            (self.running, "running"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        parts.append(f"{rate_text(self.per_second)}/s")
        if self.eta is not None and self.done != self.total:
            parts.append(f"{_clock_text(self.eta)} left")
        return ", ".join(parts)


def rate_text(per_second: float) -> str:
    """A rate with three digits or more."""
    digits = 0 if per_second >= 100 or not per_second else 1 if per_second >= 10 else 2
    return f"{per_second:,.{digits}f}"


def _clock_text(seconds: float) -> str:
    """Seconds as a clock shows them."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class TqdmBar(Protocol):
    """What tells a type checker that something is a tqdm bar, which need not be installed."""

    def update(self, n: float = ..., /) -> Any:
        """Count ``n`` more."""

    def set_postfix_str(self, s: str = ..., refresh: bool = ...) -> None:
        """Show a text behind the bar."""


class RichProgress(Protocol):
    """As :class:`TqdmBar`, for a ``rich.progress.Progress``."""

    def add_task(self, description: str, /) -> Any:
        """Add a bar."""

    def stop_task(self, task_id: Any, /) -> None:
        """Stop the clock of a bar."""


#: What may be passed as ``progress=``.
Shown = bool | Callable[[Progress], object] | TqdmBar | type[TqdmBar] | RichProgress | None
