"""What fetch_urls.py shows beside its bar: failures, a summary, and how long others would take.

Everything here takes the same memory for twenty URLs and for two million.
"""

import collections
import dataclasses
import functools
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from typing import Any, TextIO

import psutil
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError

from hybridexec import Outcome


class Record:
    """Takes each outcome to where it belongs: the output, the summary."""

    #: Failures named on the terminal when there is no output to name them in.
    SHOWN_FAILURES = 20
    #: Seconds between two looks at memory, and between two flushes of the output.
    PERIOD = 0.5

    def __init__(self, summary: "Summary", out: TextIO | None) -> None:
        self._summary = summary
        self._out = out
        self._next_tick = 0.0

    def add(self, outcome: Outcome[Any]) -> None:
        """Write and count one outcome."""
        if self._out is not None:
            self._out.write(json.dumps(as_dict(outcome)) + "\n")
        elif outcome.error is not None:
            self._show(outcome.item, outcome.error)
        self._summary.add(outcome)
        if time.monotonic() >= self._next_tick:
            self._tick()

    def _show(self, url: str, error: BaseException) -> None:
        if self._summary.failed < self.SHOWN_FAILURES:
            tqdm.write(f"{url}: {describe(error)}", file=sys.stderr)
        elif self._summary.failed == self.SHOWN_FAILURES:
            tqdm.write("Failures are only counted from now on; --out names all.", file=sys.stderr)

    def _tick(self) -> None:
        self._next_tick = time.monotonic() + self.PERIOD
        self._summary.memory.sample()
        if self._out is not None:
            self._out.flush()

    def close(self) -> None:
        """Nothing follows."""
        self._summary.stop_clock()
        self._tick()


def as_dict(outcome: Outcome[Any]) -> dict[str, Any]:
    """One line of the output."""
    page = outcome.value
    return {
        "url": outcome.item,
        "status": None if page is None else page.status,
        "bytes": None if page is None else page.size,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 4),
        "error": None if outcome.error is None else describe(outcome.error),
    }


def describe(error: BaseException) -> str:
    """The error in one line."""
    error = cause(error)
    # urllib3's errors lose the name of their connection on the way between processes.
    text = " ".join(str(error).removeprefix("None: ").split())
    return f"{type(error).__name__}: {text}"


def cause(error: BaseException) -> BaseException:
    """What went wrong, without the "max retries exceeded" that urllib3 puts around it."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return error.reason
    return error


@dataclasses.dataclass(frozen=True)
class Rival:
    """What a sample took an executor of the standard library."""

    name: str
    sample: int
    seconds: float

    def scaled(self, count: int) -> float:
        """How many seconds so many would take at that rate."""
        return self.seconds * count / self.sample


class Summary:
    """Counts outcomes as they come; ``str()`` of it is the report."""

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self.done = 0
        self.failed = 0
        self.received = 0
        self.statuses: collections.Counter[int] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.latencies = Latencies()
        self.memory = PeakMemory()
        self.seconds = 0.0
        self._started = time.monotonic()

    def add(self, outcome: Outcome[Any]) -> None:
        """Count one outcome."""
        self.done += 1
        if outcome.worker is not None:
            self.memory.watch(outcome.worker)
        if outcome.error is not None:
            self.failed += 1
            self.errors[type(cause(outcome.error)).__name__] += 1
            return
        page = outcome.result()
        self.statuses[page.status] += 1
        self.received += page.size
        if outcome.seconds is not None:
            self.latencies.add(outcome.seconds)

    def stop_clock(self) -> None:
        """The run is over: what follows does not count."""
        self.seconds = time.monotonic() - self._started

    def comparison(self, rivals: Iterable[Rival]) -> Iterator[str]:
        """Lines that say what the same URLs take others."""
        yield f"\nThe same {self.done:,} URLs with other executors, scaled up from short samples:"
        for rival in rivals:
            seconds = rival.scaled(self.done)
            yield (
                f"  {rival.name:<34} {seconds:8.1f} s   {seconds / self.seconds:5.1f} × as long   "
                f"(sample: {rival.sample:,} in {rival.seconds:.1f} s)"
            )

    def __str__(self) -> str:
        latencies, memory = self.latencies, self.memory
        rate = self.done / self.seconds if self.seconds else 0.0
        marks = {f"p{p}": latencies.percentile(p) for p in (50, 90, 99)} | {"max": latencies.max}
        latency = ", ".join(f"{mark} {_duration(seconds)}" for mark, seconds in marks.items())
        workers = " + ".join(map(_size, memory.workers.values())) or "none"
        rows = {
            "URLs": f"{self.done:,} in {self.seconds:.1f} s: {rate:,.0f}/s with {self.setting}",
            "status": _counts(self.statuses),
            "errors": _counts(self.errors),
            "latency": latency if latencies.count else "none",
            "received": _size(self.received),
            "peak memory": f"{_size(memory.total)}: {_size(memory.parent)} here, workers {workers}",
        }
        return "\n".join(f"{name:<12} {text}" for name, text in rows.items())


class Latencies:
    """A histogram with buckets 2 % wide: its percentiles are that exact."""

    _WIDTH = math.log(1.02)

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self._buckets: collections.Counter[int] = collections.Counter()

    def add(self, seconds: float) -> None:
        """Count one latency."""
        self.count += 1
        self.max = max(self.max, seconds)
        self._buckets[math.ceil(math.log(max(seconds, 1e-6)) / self._WIDTH)] += 1

    def percentile(self, percent: float) -> float:
        """The latency that so many percent did not exceed; 0 if there are none."""
        rank = math.ceil(self.count * percent / 100)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(math.exp(bucket * self._WIDTH), self.max)
        return 0.0


class PeakMemory:
    """The most resident memory seen: here, in each worker, and in all of them at one time."""

    def __init__(self) -> None:
        self.total = 0
        self.parent = 0
        self.workers: dict[int, int] = {}
        self._here = psutil.Process()
        self._processes: dict[int, psutil.Process | None] = {}  # None: it has ended

    def watch(self, pid: int) -> None:
        """Look at this worker too from now on."""
        if pid not in self._processes:
            try:
                self._processes[pid] = psutil.Process(pid)
            except psutil.Error:
                self._processes[pid] = None

    def sample(self) -> None:
        """Look once; takes some tens of microseconds for each process."""
        total = self._here.memory_info().rss
        self.parent = max(self.parent, total)
        for pid, process in self._processes.items():
            if process is None:
                continue
            try:
                resident = process.memory_info().rss
            except psutil.Error:
                self._processes[pid] = None
                continue
            total += resident
            self.workers[pid] = max(self.workers.get(pid, 0), resident)
        self.total = max(self.total, total)


def rivals(
    fetch: Callable[[str], object],
    urls: Sequence[str],
    during: Callable[[Iterable[int]], Iterator[int]],
) -> Iterator[Rival]:
    """Fetch from ``urls`` for two seconds with each of the standard library's executors.

    A sample is waited for through ``during``, so that it can be interrupted.
    """
    # On Ctrl-C only this process should speak.
    quiet = functools.partial(
        ProcessPoolExecutor, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    makers: dict[str, Callable[[], ThreadPoolExecutor | ProcessPoolExecutor]] = {
        "ThreadPoolExecutor()": ThreadPoolExecutor,
        "ThreadPoolExecutor(32)": functools.partial(ThreadPoolExecutor, 32),
        "ProcessPoolExecutor()": quiet,
    }
    for name, make in makers.items():
        executor = make()
        width: int = executor._max_workers  # type: ignore[union-attr]  # what the default came to
        started = time.monotonic()
        try:
            done = sum(during(_fetch_for(2.0, executor, fetch, urls, 2 * width)))
            yield Rival(f"{name}, {width} at once", done, time.monotonic() - started)
        finally:
            executor.shutdown(cancel_futures=True)


def _fetch_for(
    seconds: float,
    executor: Executor,
    fetch: Callable[[str], object],
    urls: Iterable[str],
    ahead: int,
) -> Iterator[int]:
    """Yield how many fetches ended, again and again; ``ahead`` are submitted at any time."""
    deadline = time.monotonic() + seconds
    unsent = iter(urls)
    pending: set[Future[object]] = set()
    while True:
        while len(pending) < ahead and time.monotonic() < deadline:
            url = next(unsent, None)
            if url is None:
                break
            pending.add(executor.submit(fetch, url))
        if not pending:
            return
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield len(done)


def _counts(counter: "collections.Counter[Any]") -> str:
    return ", ".join(f"{count:,} × {key}" for key, count in counter.most_common()) or "none"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
