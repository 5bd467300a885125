"""What an executor does, as Prometheus metrics.

Thread: those that scrape. No thread is started, and no call takes a step more: the numbers are read
when a scrape asks for them.
Guarantees: counters never fall, however workers come and go, and stay after the executor's end; a
registry has each metric once, whatever the number of executors; an executor is not kept alive.

The metrics, each with the label ``executor``:

======================================= ========= ==================================================
``hybridexec_calls_submitted_total``    counter   calls that were submitted
``hybridexec_calls_total``              counter   calls that have ended, by ``outcome``:
                                                  ``finished``, ``failed``, ``timed_out``,
                                                  ``cancelled``, ``lost``
``hybridexec_calls_retried_total``      counter   runs that came to nothing and were repeated
``hybridexec_calls_running``            gauge     calls that are running
``hybridexec_calls_pending``            gauge     calls that have not started, wherever they wait
``hybridexec_call_run_seconds``         histogram how long runs of calls took
``hybridexec_call_wait_seconds``        histogram how long calls had waited until they ran
``hybridexec_workers``                  gauge     worker processes
``hybridexec_worker_restarts_total``    counter   workers that had to be replaced, by ``cause``:
                                                  ``max_tasks_per_child``, ``max_memory_per_child``,
                                                  ``abandoned`` (cancelled calls go on there),
                                                  ``timeout`` (killed for a call that did not end),
                                                  ``start`` (it could not be started), ``exit`` (its
                                                  process has ended itself), ``unknown``, or a
                                                  signal (``SIGKILL``)
``hybridexec_worker_cpu_seconds_total`` counter   CPU time of all workers there were
``hybridexec_worker_rss_bytes``         gauge     memory in RAM, by ``worker``
``hybridexec_worker_busy_ratio``        gauge     share of the last seconds for which its hub was
                                                  held, from 0 to 1, by ``worker``
``hybridexec_worker_hub_lag_seconds``   gauge     for how long its hub has been overdue, by
                                                  ``worker``
``hybridexec_sent_bytes_total``         counter   bytes of calls, to the workers
``hybridexec_received_bytes_total``     counter   bytes of results
======================================= ========= ==================================================

``worker`` is a place, from 0 on, not a pid: a worker that replaces another gets the lowest that is
free, so recycling makes no new series. The bounds of histograms are met to within 4 %, from 0.25 s
to 2 minutes exactly; sums and counts are exact.

If any executor's workers are on nodes of a cluster, the number of workers and what is told by
``worker`` have one more label, ``node``: the node's name; empty for what is on this machine, and
for workers that are being started.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any

from .wire.histogram import Histogram, edge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from .executor import ExecutorView, HybridExecutor
    from .parent.engine.engine import Engine
    from .parent.engine.measures import Measures

__all__ = ["Exposition", "prometheus"]

OUTCOMES = ("finished", "failed", "timed_out", "cancelled", "lost")
#: Those that are told from the first scrape on; other signals, when they have occurred.
CAUSES = (
    "max_tasks_per_child",
    "max_memory_per_child",
    "abandoned",
    "timeout",
    "start",
    "exit",
    "unknown",
    "SIGKILL",
    "SIGSEGV",
)
#: The bounds of the histograms' buckets, in seconds.
BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)

# Reentrant: a finalizer that closes may interrupt its holder.
_lock = threading.RLock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, _Collector] = weakref.WeakKeyDictionary()


def prometheus(
    executor: HybridExecutor | ExecutorView,
    registry: CollectorRegistry | None = None,
    *,
    name: str | None = None,
) -> Exposition:
    """Have ``executor`` among the metrics of a registry, which a scrape reads.

    Args:
        executor: an executor, or a view of one.
        registry: a ``prometheus_client.CollectorRegistry``; None for the default one, which
            ``start_http_server`` and ``make_wsgi_app`` show.
        name: the value of the label ``executor``; by default the lowest number, from 1 on, that no
            executor in use has in that registry.

    Returns:
        What takes the executor out again, with ``close()``. Its counters stay after its end, until
        then, or until an executor of the same name takes its place.

    Raises:
        ImportError: prometheus_client is not installed: ``pip install 'hybridexec[prometheus]'``.
        ValueError: the executor is in this registry already, or an executor in use has that name.
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise ImportError(
            "hybridexec.metrics.prometheus needs prometheus_client, which is not installed: pip "
            "install 'hybridexec[prometheus]'"
        ) from error
    if registry is None:
        registry = prometheus_client.REGISTRY
    engine = executor._assembly.engine
    with _lock:
        collector = _collectors.get(registry)
        exposed = {} if collector is None else collector.exposed
        name = _name(exposed, engine, name)
        if collector is None:
            collector = _Collector()
            registry.register(collector)
            _collectors[registry] = collector
        made = Exposition(registry, name, engine)
        collector.exposed = {**collector.exposed, name: made}
    return made


def _name(exposed: dict[str, Exposition], engine: Engine, name: str | None) -> str:
    """That of a new one among those; raises ValueError if it cannot be had."""
    in_use = {known: each for known, each in exposed.items() if not each.has_ended}
    for known, each in in_use.items():
        if each.engine is engine:
            raise ValueError(f"this executor is in this registry already, as {known!r}")
    if name is None:
        return next(number for number in map(str, count(1)) if number not in in_use)
    if name in in_use:
        raise ValueError(f"another executor in this registry is called {name!r}")
    return name


class Exposition:
    """An executor that is in a registry."""

    def __init__(self, registry: CollectorRegistry, name: str, engine: Engine) -> None:
        #: The value of the label ``executor``.
        self.name = name
        self._registry = registry
        self._engine = engine
        self._places: dict[int, int] = {}
        self._sums: dict[str, float] = {}

    def close(self) -> None:
        """Take the executor out of the registry. A second call does nothing."""
        with _lock:
            collector = _collectors.get(self._registry)
            if collector is None or collector.exposed.get(self.name) is not self:
                return
            left = {name: each for name, each in collector.exposed.items() if each is not self}
            collector.exposed = left
            if not left:
                self._registry.unregister(collector)
                del _collectors[self._registry]

    # -- for the collector ------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The executor's."""
        return self._engine

    @property
    def has_ended(self) -> bool:
        """Whether the executor takes no more calls."""
        return self._engine.closed is not None

    def measures(self) -> Measures | None:
        """The executor's numbers; None in a fork of the process that has it."""
        if self._engine.inert:
            return None
        self._engine.follow()
        return self._engine.sampler.measures()

    def rising(self, what: str, value: float) -> float:
        """A sum that never falls, not even by a rounding error."""
        self._sums[what] = value = max(value, self._sums.get(what, 0.0))
        return value

    def places(self, workers: list[int]) -> list[str]:
        """The values of the label ``worker`` for workers with these numbers."""
        places = {worker: place for worker, place in self._places.items() if worker in workers}
        free = (place for place in count() if place not in places.values())
        for worker in workers:
            if worker not in places:
                places[worker] = next(free)
        self._places = places
        return [str(places[worker]) for worker in workers]


class _Collector:
    """Reads the numbers of a registry's executors when the registry is scraped."""

    def __init__(self) -> None:
        #: By name; replaced, never changed.
        self.exposed: dict[str, Exposition] = {}

    def describe(self) -> Iterator[Metric]:
        """The metrics without values, from which the registry knows the names."""
        yield from _Families().all()

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        told = [(each, each.measures()) for each in self.exposed.values()]
        families = _Families(any(_on_nodes(measures) for _, measures in told))
        for each, measures in told:
            if measures is not None:
                families.add(each, measures)
        yield from families.all()


class _Families:
    """The metrics of one scrape."""

    def __init__(self, nodes: bool = False) -> None:
        """
        Args:
            nodes: whether workers of any executor are on nodes of a cluster.
        """
        from prometheus_client import metrics_core

        self._nodes = nodes
        self._made: dict[str, Any] = {}
        for kind, what, text, label in _METRICS:
            make = getattr(metrics_core, f"{kind}MetricFamily")
            labels = ["executor", label] if label else ["executor"]
            if nodes and what in _BY_NODE:
                labels.append("node")
            self._made[what] = make(f"hybridexec_{what}", text, labels=labels)

    def all(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._made.values()

    def add(self, exposition: Exposition, measures: Measures) -> None:
        """Add an executor's numbers."""
        name, sample = exposition.name, measures.sample
        workers = sample.workers
        for outcome in OUTCOMES:
            self._add("calls", getattr(sample, outcome), name, outcome)
        for cause in sorted({*CAUSES, *measures.causes}):
            self._add("worker_restarts", measures.causes.get(cause, 0), name, cause)
        self._add("calls_submitted", sample.submitted, name)
        self._add("calls_retried", sample.retried, name)
        self._add("calls_running", sum(worker.running for worker in workers), name)
        queued = sum(worker.queued for worker in workers)
        self._add("calls_pending", sample.pending + queued, name)
        if self._nodes:
            counts = Counter(dict.fromkeys(measures.nodes, 0))
            counts.update(worker.node for worker in workers)
            for node, number in counts.items():
                self._add("workers", number, name, node)
        else:
            self._add("workers", len(workers), name)
        cpu = exposition.rising("worker_cpu_seconds", measures.cpu_seconds)
        self._add("worker_cpu_seconds", cpu, name)
        self._add("sent_bytes", measures.bytes_sent, name)
        self._add("received_bytes", measures.bytes_received, name)
        places = exposition.places([worker.worker for worker in workers])
        for place, worker in zip(places, workers, strict=True):
            labels = (name, place, worker.node) if self._nodes else (name, place)
            self._add("worker_rss_bytes", worker.rss, *labels)
            self._add("worker_busy_ratio", worker.busy, *labels)
            self._add("worker_hub_lag_seconds", worker.hub_lag, *labels)
        self._histogram("call_run_seconds", measures.run_seconds, exposition)
        self._histogram("call_wait_seconds", measures.wait_seconds, exposition)

    def _add(self, what: str, value: float, *labels: str) -> None:
        self._made[what].add_metric(labels, value)

    def _histogram(self, what: str, seconds: Histogram, exposition: Exposition) -> None:
        passed = [0, *accumulate(seconds.counts)]
        buckets = [(str(bound), passed[fine]) for bound, fine in zip(BOUNDS, _FINE, strict=True)]
        total = exposition.rising(what, seconds.total)
        self._made[what].add_metric([exposition.name], [*buckets, ("+Inf", passed[-1])], total)


def _on_nodes(measures: Measures | None) -> bool:
    """Whether an executor's workers are on nodes of a cluster."""
    if measures is None:
        return False
    return bool(measures.nodes) or any(worker.node for worker in measures.sample.workers)


def _nearest(bound: float) -> int:
    """The fine bucket that begins nearest to a bound."""
    edges = [edge(bucket) for bucket in range(len(Histogram().counts))]
    above = bisect_left(edges, bound)
    return above if edges[above] - bound <= bound - edges[above - 1] else above - 1


_FINE = [_nearest(bound) for bound in BOUNDS]

#: Those that have a label more, ``node``, if there are nodes.
_BY_NODE = frozenset({"workers", "worker_rss_bytes", "worker_busy_ratio", "worker_hub_lag_seconds"})
#: The kind, the name, what it says, and the second label.
_METRICS = (
    ("Counter", "calls_submitted", "Calls that were submitted.", ""),
    ("Counter", "calls", "Calls that have ended, by how.", "outcome"),
    ("Counter", "calls_retried", "Runs that came to nothing and were repeated.", ""),
    ("Gauge", "calls_running", "Calls that are running.", ""),
    ("Gauge", "calls_pending", "Calls that have not started.", ""),
    ("Histogram", "call_run_seconds", "How long runs of calls took.", ""),
    ("Histogram", "call_wait_seconds", "How long calls had waited until they ran.", ""),
    ("Gauge", "workers", "Worker processes.", ""),
    ("Counter", "worker_restarts", "Workers that had to be replaced, by why.", "cause"),
    ("Counter", "worker_cpu_seconds", "CPU time of all workers there were.", ""),
    ("Gauge", "worker_rss_bytes", "Memory in RAM.", "worker"),
    ("Gauge", "worker_busy_ratio", "Share of the last seconds that its hub was held.", "worker"),
    ("Gauge", "worker_hub_lag_seconds", "For how long its hub has been overdue.", "worker"),
    ("Counter", "sent_bytes", "Bytes of calls, to the workers.", ""),
    ("Counter", "received_bytes", "Bytes of results.", ""),
)
