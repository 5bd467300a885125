"""The failures of calls, grouped: what people look at when some of a million calls have failed.

Thread: turn holder; any thread may read a copy.
Guarantees: the memory it takes is bound by a number of groups, whatever fails.
"""

from __future__ import annotations

from ...process import Process

#: How many groups are kept: those in which something failed last.
_MOST = 100
#: Characters of an error's text, and of a traceback, at most.
_LONGEST_TEXT, _LONGEST_TRACE = 500, 10_000


class Failure:
    """Calls that failed in the same way at the same place."""

    __slots__ = (
        "count",
        "error",
        "first_at",
        "function",
        "last_at",
        "place",
        "process",
        "text",
        "trace",
    )

    def __init__(self, function: str, error: str, place: str, now: float) -> None:
        #: The function's name.
        self.function = function
        #: The error's type, with its module; a name without one is the library's own.
        self.error = error
        #: Where it was raised: ``file.py:12 in name``; empty if that is not known.
        self.place = place
        #: How many calls; when the first and the last of them have ended, in monotonic seconds.
        self.count = 0
        self.first_at = self.last_at = now
        #: Of the last: the error's text, the traceback as printed in the worker, and the worker's
        #: process.
        self.text = self.trace = ""
        self.process: Process | None = None


class Failures:
    """The groups, the one in which something failed last being the last."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], Failure] = {}

    def note(
        self,
        function: str,
        error: str,
        text: str,
        trace: str,
        process: Process | None,
        now: float,
    ) -> None:
        """Note that a call has failed."""
        place = _place(trace)
        key = function, error, place
        group = self._groups.pop(key, None) or Failure(function, error, place, now)
        if len(self._groups) >= _MOST:
            del self._groups[next(iter(self._groups))]
        self._groups[key] = group
        group.count += 1
        group.last_at = now
        group.text, group.trace = text[:_LONGEST_TEXT], trace[-_LONGEST_TRACE:]
        group.process = process

    def groups(self) -> list[Failure]:
        """The groups, the latest last."""
        return list(self._groups.values())


def _place(trace: str) -> str:
    """The innermost frame of a traceback, in a few words."""
    start = trace.rfind('  File "')
    if start < 0:
        return ""
    line = trace[start + 8 : trace.find("\n", start)]
    file, _, rest = line.partition('", line ')
    number, _, name = rest.partition(", in ")
    return f"{file.rpartition('/')[2]}:{number} in {name}"
