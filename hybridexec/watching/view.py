"""The view model: what a watcher shows of an executor, as JSON has it.

Thread: any.
Guarantees: it is bounded, whatever the executor does; no worker is waited for.

What draws it needs nothing else, and no executor: it may have come from another process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from .. import native

if TYPE_CHECKING:
    from ..parent.engine.watched import Watched
    from ..parent.pool.failures import Failure

#: How many seconds the series of rates has.
SECONDS = 60
#: How many groups of failures there are at most, and how many ends of workers.
_MOST_FAILURES, _MOST_ENDS = 10, 10
#: The shortest time, in seconds, in which calls are taken to have ended.
_INSTANT = 1e-3
#: Characters of a traceback at most.
_LONGEST_TRACE = 4000

View = dict[str, Any]


def view(watched: Watched) -> View:
    """What a watcher shows now. The keys:

    ``pid``
        the process that has the executor.
    ``at``
        the time of day, in seconds since the epoch.
    ``age``
        for how many seconds there has been the executor.
    ``state``
        ``"running"``, ``"broken"``, ``"shutting down"`` or ``"ended"``.
    ``max_workers``, ``slots``
        how many workers each lane has at most; and, by lane, how many calls each of them runs at
        once.
    ``stats``
        what ``ExecutorStats.as_dict()`` returns.
    ``rates``
        how many calls ended in each of the last sixty seconds, the latest last.
    ``failures``
        calls that have failed in the same way at the same place, the latest first: a dict for each
        group with ``function``, ``error`` (its type), ``place`` (``"file.py:12 in name"``, empty if
        it is not known), ``count``, ``seconds_ago`` of the last, and ``text``, ``traceback`` and
        ``pid`` and ``node`` of that.
    ``ends``
        the last workers that have ended, the latest first: a dict for each with ``seconds_ago``,
        ``worker`` (its number), ``pid``, ``node`` (empty if it was on this machine), ``lost``
        (whether that was not planned) and ``cause`` (how it was lost, in words; else empty).
    """
    now = native.monotonic()
    marks, ended = watched.ended()
    return {
        "pid": os.getpid(),
        "at": time.time(),
        "age": now - watched.began_at,
        "state": watched.state,
        "max_workers": watched.max_workers,
        "slots": dict(watched.slots),
        "stats": watched.stats().as_dict(),
        "rates": rates(marks, ended, now),
        "failures": [
            _failure(group, now) for group in watched.failures()[: -_MOST_FAILURES - 1 : -1]
        ],
        "ends": list(islice(_ends(watched.log(), now), _MOST_ENDS)),
    }


def rates(marks: list[tuple[float, int]], ended: int, now: float) -> list[float]:
    """How many calls ended in each of the last seconds.

    Args:
        marks: as of :meth:`.Watched.ended`. What was counted until the next mark ended within a
            second of this one, or before the next.
        ended: how many have ended by now.
    """
    bins = [0.0] * SECONDS
    for (since, before), (until, after) in pairwise([*marks, (now, ended)]):
        # How many seconds ago that was; it is spread evenly.
        last = max(0.0, now - min(until, since + 1.0))
        first = max(now - since, last + _INSTANT)
        per_second = (after - before) / (first - last)
        for back in range(int(last), min(int(first) + 1, SECONDS)):
            bins[-1 - back] += per_second * max(0.0, min(first, back + 1) - max(last, back))
    return bins


def _failure(group: Failure, now: float) -> dict[str, Any]:
    return {
        "function": group.function,
        "error": group.error,
        "place": group.place,
        "count": group.count,
        "seconds_ago": now - group.last_at,
        "text": group.text,
        "traceback": group.trace[-_LONGEST_TRACE:],
        "pid": None if group.process is None else group.process.pid,
        "node": "" if group.process is None else group.process.node,
    }


def _ends(log: list[tuple[Any, ...]], now: float) -> Iterator[dict[str, Any]]:
    for at, name, *fields in reversed(log):
        if name == "WorkerEnded":
            worker, process, lost, cause = fields
            yield {
                "seconds_ago": now - at,
                "worker": worker,
                "pid": process.pid,
                "node": process.node,
                "lost": lost,
                "cause": cause,
            }
