"""All that can be measured of an executor, at one time: for metrics.

Thread: any, in a turn, so that no worker ends between two numbers: sums never fall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...wire.histogram import Histogram
from .history import Sample, sample
from .statistics import histograms

if TYPE_CHECKING:
    from .snapshot import Snapshot


class Measures(NamedTuple):
    """The numbers. Times are in seconds."""

    sample: Sample
    run_seconds: Histogram
    wait_seconds: Histogram
    #: Workers that had to be replaced, by the kind of cause.
    causes: dict[str, int]
    #: CPU time of all workers there were.
    cpu_seconds: float
    bytes_sent: int
    bytes_received: int
    #: The names of the nodes that have the workers; none if these are on this machine.
    nodes: tuple[str, ...]


def measure(snapshot: Snapshot, now: float) -> Measures:
    """How it is now."""
    tally = snapshot.tally
    cpu = tally.cpu_seconds + sum(worker.page.cpu_seconds for worker in snapshot.workers())
    return Measures(
        sample(snapshot, now),
        *histograms(snapshot),
        dict(tally.causes),
        cpu,
        *snapshot.bytes_moved(),
        tuple(node.name for node in snapshot.nodes()),
    )
