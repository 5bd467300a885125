"""Displays that other libraries draw: tqdm's bars, and tasks in a ``rich.progress.Progress``.

Thread: they are made in the consumer's thread; the rest is the reporter's. This module imports
neither library: it gets what the user, or :mod:`.choice`, has made.
"""

from __future__ import annotations

import time
from typing import Any

from ..progress import Progress, rate_text


class Bar:
    """A tqdm bar."""

    def __init__(self, bar: Any, ours: bool) -> None:
        """
        Args:
            bar: may have counted other things before.
            ours: whether nobody else uses it, so that it is closed at the end.
        """
        self._bar = bar
        self._ours = ours
        self._before = bar.n
        self._shown = 0
        self._drawn_at = time.monotonic()

    def show(self, progress: Progress, last: bool) -> None:
        """See :class:`.reporter.Display`."""
        bar = self._bar
        if bar.disable:
            return
        if progress.total is not None:
            self._lengthen(self._before + progress.total)
        if text := _extras(progress):
            bar.set_postfix_str(text, refresh=False)
        more = progress.done - self._shown
        self._shown = progress.done
        drawn = bar.update(more)
        now = time.monotonic()
        if not drawn and (last or now - self._drawn_at >= bar.mininterval):
            bar.refresh()  # its clock moves on
            drawn = True
        if drawn:
            self._drawn_at = now
        if last and self._ours:
            bar.close()

    def _lengthen(self, total: int) -> None:
        """Make the bar as long as that, unless the user wants it longer."""
        bar = self._bar
        if bar.total is None or bar.total < total:
            # A notebook's bar follows only if it is reset.
            done, began = bar.n, bar.start_t
            bar.reset(total)
            bar.n = bar.last_print_n = done
            bar.start_t = began


class Task:
    """A bar in a ``rich.progress.Progress``."""

    def __init__(self, progress: Any, name: str, total: int | None) -> None:
        from rich.errors import LiveError
        from rich.markup import escape

        self._progress = progress
        self._name = escape(name)
        self._started = not progress.live.is_started
        if self._started:
            for task in progress.tasks:
                if task.stop_time is not None:  # it was drawn for good when that stopped
                    progress.update(task.id, visible=False)
            try:
                progress.start()
            except LiveError:  # it is shown as a part of something else
                self._started = False
        fields: dict[str, Any] = {"failed": 0, "retried": 0, "running": 0, "per_second": 0.0}
        self._task = progress.add_task(self._name, total=total, **fields)

    def show(self, progress: Progress, last: bool) -> None:
        """See :class:`.reporter.Display`."""
        texts = [f"{progress.done:,} done", f"{rate_text(progress.per_second)}/s"]
        if extras := _extras(progress):
            texts.insert(1, extras)
        self._progress.update(
            self._task,
            description=f"{self._name} {', '.join(texts)}".strip(),
            total=progress.total,
            completed=progress.done,
            failed=progress.failed,
            retried=progress.retried,
            running=progress.running,
            per_second=progress.per_second,
            refresh=last or not self._progress.live.auto_refresh,
        )
        if last:
            self._progress.stop_task(self._task)
            if self._started:
                self._progress.stop()


def _extras(progress: Progress) -> str:
    """What has happened beside calls that succeed."""
    counts = ((progress.failed, "failed"), (progress.retried, "retried"))
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)
