"""Streams of all lanes, fetched by many threads, left by some, while workers are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from hybridexec import HybridExecutor, WorkerLost
from hybridexec.options import Lane

from . import conftest

CONSUMERS, ROUNDS = 24, 12
#: Seconds between two kills.
PERIOD = 0.3
#: Seconds in which all must be over.
BOUND = 120.0


def count(numbers: int) -> Iterator[int]:
    for n in range(numbers):
        if n % 50 == 0:
            time.sleep(0.001)
        yield n


async def count_async(numbers: int) -> AsyncIterator[int]:
    for n in range(numbers):
        if n % 50 == 0:
            await asyncio.sleep(0.001)
        yield n


def consume(executor: HybridExecutor, lane: Lane, seed: int) -> tuple[int, int]:
    """Fetch some streams, most of them to the end; how many ended well, and lost their worker."""
    rng = random.Random(seed)
    whole = lost = 0
    function = count_async if lane == "async" else count
    for _ in range(ROUNDS):
        numbers = rng.randrange(1000)
        leave_at = rng.choice([None, None, None, rng.randrange(1000)])
        view = executor.options(lane=lane, stream_buffersize=rng.choice([1, 7, 100]))
        got: list[int] = []
        try:
            for n in view.stream(function, numbers):
                got.append(n)
                if n == leave_at:
                    break
            else:
                assert len(got) == numbers, "it ends only when all has come"
            whole += 1
        except WorkerLost:
            lost += 1
        assert got == list(range(len(got))), "each item once, and in order"
    return whole, lost


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["greenlet", "async", "thread"])
def test_streams_survive_or_are_lost_with_their_workers(lane: Lane) -> None:
    over = threading.Event()
    killed: list[int] = []
    with HybridExecutor(2, concurrency=50) as executor:

        def kill() -> None:
            rng = random.Random(conftest.SEED)
            end = time.monotonic() + BOUND / 4  # however slow the machine is, calls get on
            while time.monotonic() < end and not over.wait(PERIOD):
                # Three starts in a row that come to nothing would break the executor.
                workers = executor.stats().workers
                if pids := [each.pid for each in workers if each.pid and each.done]:
                    with suppress(ProcessLookupError):
                        killed.append(rng.choice(pids))
                        os.kill(killed[-1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with ThreadPoolExecutor(CONSUMERS) as threads:
                seeds = range(conftest.SEED, conftest.SEED + CONSUMERS)
                ends = [threads.submit(consume, executor, lane, seed) for seed in seeds]
                counts = [end.result(BOUND) for end in ends]
        finally:
            over.set()
            killer.join()
        assert killed, "that was no chaos"
        assert sum(map(sum, counts)) == CONSUMERS * ROUNDS
        assert sum(whole for whole, _ in counts)
        deadline = time.monotonic() + BOUND
        while executor.stats().running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert executor.stats().running == 0, "what was left is closed"
        view = executor.options(lane=lane)
        assert list(view.stream(count, 3)) == [0, 1, 2]
