"""Does anything grow? Mixed load for minutes, watched from outside: ``python -m benchmarks.soak``.

Two executors under the same load: *rough*, whose workers are killed and recycled all the time, and
*steady*, whose workers live from the beginning to the end. Prints a table and fails if memory,
descriptors or threads have grown after the warm-up, or if any call ended wrongly.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from hybridexec import CallTimeout, HybridExecutor, WorkerLost

from .harness import machine

WORKERS = 2
CONCURRENCY = 100
#: Calls that a worker of the rough executor runs in its life.
LIFE = 5_000
#: Seconds between two killings.
KILL_PERIOD = 2.0
SAMPLE_PERIOD = 0.5
#: The part of the time that is not looked at: imports, caches and arenas fill.
WARM_UP = 0.25

MIB = 2**20


# -- the calls ------------------------------------------------------------------------------------


def double(number: int) -> int:
    return number * 2


def nap(number: int) -> int:
    time.sleep(number % 20 / 1000)
    return number * 2


def echo(payload: bytes) -> bytes:
    return payload


def fail(number: int) -> int:
    raise ValueError(number)


def sleep_long() -> None:
    time.sleep(60)


class Load(threading.Thread):
    """Makes calls through one executor until told to stop, and checks what comes of each."""

    def __init__(self, executor: HybridExecutor, seed: int) -> None:
        super().__init__(daemon=True)
        self._executor = executor
        self._rng = random.Random(seed)
        self.over = threading.Event()
        #: How many calls ended how.
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self._short_calls()
                self._payloads()
                self._calls_that_are_stopped()
                self._streams()
        except BaseException as error:
            self.wrong.append(f"the load itself failed: {error!r}")

    def _short_calls(self) -> None:
        submit = self._executor.submit
        calls: list[tuple[Any, Any]] = [(submit(double, n), n * 2) for n in range(1000)]
        calls += [(submit(nap, n), n * 2) for n in range(200)]
        calls += [(submit(fail, n), ValueError) for n in range(50)]
        for future, right in calls:
            self._check(future, right)

    def _payloads(self) -> None:
        sizes = [self._rng.choice([10, 10_000, 200_000, 3_000_000]) for _ in range(8)]
        payloads = [bytes([size % 251]) * size for size in sizes]
        for future, right in [(self._executor.submit(echo, p), p) for p in payloads]:
            self._check(future, right)

    def _calls_that_are_stopped(self) -> None:
        cancelled = [self._executor.submit(sleep_long) for _ in range(20)]
        hurried = self._executor.options(timeout=0.02)
        late = [hurried.submit(sleep_long) for _ in range(20)]
        for future in late:
            self._check(future, CallTimeout)
        for future in cancelled:
            future.cancel()
            self._check(future, CancelledError)

    def _streams(self) -> None:
        for outcome in self._executor.outcomes(nap, range(500)):
            self._count(outcome.value, outcome.error, outcome.item * 2)
        left = 1000
        for value in self._executor.map_unordered(double, range(2000), return_exceptions=True):
            if isinstance(value, BaseException):
                self._count(None, value, None)
            else:
                self._count(value % 2, None, 0)
            left -= 1
            if not left:
                break  # closes it: what has not started is cancelled

    def _check(self, future: Any, right: Any) -> None:
        try:
            value, error = future.result(120), None
        except BaseException as raised:
            value, error = None, raised
        self._count(value, error, right)

    def _count(self, value: Any, error: BaseException | None, right: Any) -> None:
        self.ends["right" if error is None else type(error).__name__] += 1
        if isinstance(error, WorkerLost):
            return  # counted, and compared with the killings at the end
        if type(error) is not right if error is not None else value != right:
            self.wrong.append(f"{value!r:.80} {error!r:.200}, not {right!r:.80}")


class Killer(threading.Thread):
    """Kills a random worker now and then."""

    def __init__(self, executor: HybridExecutor, seed: int) -> None:
        super().__init__(daemon=True)
        self._executor = executor
        self._rng = random.Random(seed)
        self.over = threading.Event()
        self.killed = 0
        #: All workers there have been.
        self.seen: set[int] = set()

    def run(self) -> None:
        next_killing = time.monotonic() + KILL_PERIOD
        while not self.over.wait(0.05):
            workers = self._executor.stats().workers
            self.seen |= {worker.pid for worker in workers if worker.pid}
            ready = [worker.pid for worker in workers if worker.pid and worker.state == "ready"]
            if ready and time.monotonic() >= next_killing:
                next_killing += KILL_PERIOD
                with suppress(ProcessLookupError):
                    os.kill(self._rng.choice(ready), signal.SIGKILL)
                    self.killed += 1


# -- what is watched ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watched:
    """One figure over time, and how much it may grow."""

    name: str
    unit: str
    bound: float
    values: list[float]

    def quarters(self) -> tuple[float, float, float]:
        """The typical value after the warm-up, at the end, and the most between."""
        kept = self.values[int(len(self.values) * WARM_UP) :]
        size = max(1, len(kept) // 4)
        return median(kept[:size]), median(kept[-size:]), max(kept)

    @property
    def grew(self) -> bool:
        first, last, _ = self.quarters()
        return last - first > self.bound


class Watch:
    """Samples this process and the workers of ``steady``."""

    def __init__(self, steady: HybridExecutor) -> None:
        self._steady = steady
        self._this = psutil.Process()
        rows = (
            ("parent, private memory", "MiB", 8),
            ("parent, resident memory", "MiB", 8),
            ("parent, descriptors", "", 2),
            ("parent, threads", "", 1),
            ("steady worker, private memory", "MiB", 8),
            ("steady worker, resident memory", "MiB", 8),
            ("steady worker, descriptors", "", 1),
            ("steady worker, threads", "", 0),
        )
        self.rows = [Watched(name, unit, bound, []) for name, unit, bound in rows]

    def sample(self) -> None:
        workers = [psutil.Process(w.pid) for w in self._steady.stats().workers if w.pid]
        figures = _figures(self._this)
        # The worst of the workers.
        figures += [max(figure) for figure in zip(*map(_figures, workers), strict=True)]
        for row, figure in zip(self.rows, figures, strict=True):
            row.values.append(figure)


def _figures(process: psutil.Process) -> list[float]:
    memory = process.memory_full_info()
    return [memory.uss / MIB, memory.rss / MIB, process.num_fds(), process.num_threads()]


def main(arguments: list[str] | None = None) -> None:
    """Soak for so long; exit with 1 if anything grew or went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args(arguments)
    note = f" (seed {options.seed})"
    print(f"{machine.heading('benchmarks.soak', arguments, note)}\n", flush=True)
    with (
        HybridExecutor(WORKERS, concurrency=CONCURRENCY, max_tasks_per_child=LIFE) as rough,
        HybridExecutor(WORKERS, concurrency=CONCURRENCY) as steady,
    ):
        loads = [Load(rough, options.seed), Load(steady, options.seed + 1)]
        killer = Killer(rough, options.seed)
        # Both workers of the steady one are there from the first sample on.
        list(steady.map(nap, [19] * WORKERS * CONCURRENCY))
        while len(pids := {each.pid for each in steady.stats().workers if each.pid}) < WORKERS:
            time.sleep(0.01)
        watch = Watch(steady)
        for thread in (*loads, killer):
            thread.start()
        end = time.monotonic() + options.seconds
        while time.monotonic() < end and all(load.is_alive() for load in loads):
            watch.sample()
            time.sleep(SAMPLE_PERIOD)
        for thread in (killer, *loads):
            thread.over.set()
            thread.join(120)
        wrong = [text for load in loads for text in load.wrong]
        if any(load.is_alive() for load in loads):
            wrong.append("calls hang")
        if pids != {worker.pid for worker in steady.stats().workers}:
            wrong.append("a steady worker was replaced")
    most_lost = killer.killed * CONCURRENCY
    ends = loads[0].ends + loads[1].ends
    if ends["WorkerLost"] > most_lost or loads[1].ends["WorkerLost"]:
        wrong.append(f"{ends['WorkerLost']} calls lost, and {most_lost} at most were running")
    _report(watch, ends, killer, wrong)
    if wrong or any(row.grew for row in watch.rows):
        sys.exit(1)


def _report(watch: Watch, ends: Counter[str], killer: Killer, wrong: list[str]) -> None:
    print("| | after warm-up | at the end | most | may grow by | |")
    print("|---|---:|---:|---:|---:|---|")
    for row in watch.rows:
        cells = [f"{figure:.1f}".removesuffix(".0") for figure in row.quarters()]
        verdict = "**grew**" if row.grew else "flat"
        unit = f" {row.unit}" if row.unit else ""
        print(
            f"| {row.name}{unit and ','}{unit} | {' | '.join(cells)} | {row.bound:g} | {verdict} |"
        )
    print(
        f"\n{sum(ends.values()):,} calls: {', '.join(f'{n:,} {end}' for end, n in ends.items())}."
    )
    print(
        f"{killer.killed} workers killed, {len(killer.seen)} workers in all in the rough executor."
    )
    for text in wrong[:20]:
        print(f"wrong: {text}")


if __name__ == "__main__":
    main()
