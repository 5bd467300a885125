"""options(rate=, per=, burst=, key=, per_key=, rate_per_key=): how fast calls may come."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor, RetryAfter

from .conftest import Make, make_executor
from .helpers import Gate, identity, nap, square, wait_until

pytestmark = pytest.mark.every_lane

#: A time that no test sits out.
LONG = 3600.0


@pytest.fixture(scope="module")
def executor() -> Iterator[HybridExecutor]:
    """Of the default start method: workers know nothing of limits."""
    with make_executor(None, concurrency=64) as made:
        list(made.map(nap, [0.05] * 4))  # all are ready
        yield made


def start_of(_: object) -> float:
    return time.monotonic()


def nap_at(host: int, seconds: float) -> tuple[int, float, float]:
    return (host, *nap(seconds))


def first(*arguments: Any, **named: Any) -> Any:
    return arguments[0]


def wait_if_slow(gate: Gate, host: object, number: int) -> tuple[object, int]:
    if host == "slow":
        gate.wait(number)
    return host, number


def fail_until(path: Path, number: int, error: type[Exception], *args: Any) -> list[float]:
    """Note when this ran, and fail until it has ``number`` times."""
    with open(path, "a") as file:
        print(time.monotonic(), file=file)
    times = [float(line) for line in path.read_text().split()]
    if len(times) < number:
        raise error(*args)
    return times


def most_at_once(spans: list[tuple[float, float]]) -> int:
    changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = count = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most


def are_spaced(times: list[float], began: float, seconds: float) -> bool:
    """Whether each came so many seconds after the one before at the soonest, as far as can be told
    where any may be late."""
    return all(at - began >= n * seconds - 0.01 for n, at in enumerate(sorted(times)))


def test_calls_start_evenly_and_no_faster_than_they_may(executor: HybridExecutor) -> None:
    view = executor.options(rate=10, per=0.5)
    began = time.monotonic()
    times = list(view.map(start_of, range(15)))
    assert are_spaced(times, began, 0.05)


def test_a_burst_starts_at_once(executor: HybridExecutor) -> None:
    view = executor.options(rate=1, per=LONG, burst=5)
    futures = [view.submit(square, n) for n in range(7)]
    assert [future.result(timeout=30) for future in futures[:5]] == [0, 1, 4, 9, 16]
    wait_until(lambda: executor.stats().limited == 2)
    assert not any(future.running() or future.done() for future in futures[5:])
    assert all(future.cancel() for future in futures[5:])
    wait_until(lambda: executor.stats().limited == 0)


def test_so_many_run_at_once_for_each_key(executor: HybridExecutor) -> None:
    view = executor.options(key=first, per_key=8)
    hosts = [n % 5 for n in range(120)]
    runs = list(view.map(nap_at, hosts, [0.05] * 120))
    at_once = {h: most_at_once([span for host, *span in runs if host == h]) for h in range(5)}  # type: ignore[misc]
    assert max(at_once.values()) <= 8
    assert most_at_once([span for _, *span in runs]) > 8  # type: ignore[misc]


def test_each_key_has_a_rate(executor: HybridExecutor) -> None:
    view = executor.options(key=first, rate_per_key=1, per=0.2, burst=1)
    began = time.monotonic()
    runs = list(view.map_unordered(nap_at, [1, 2, 1, 2, 1], [0.0] * 5))
    for host in (1, 2):
        assert are_spaced([at for key, at, _ in runs if key == host], began, 0.2)


@pytest.mark.parametrize("method", ["map_unordered", "outcomes"])
def test_a_slow_host_holds_up_no_other(executor: HybridExecutor, gate: Gate, method: str) -> None:
    view = executor.options(key=lambda gate, host, number: host, per_key=2)
    items = [(gate, "slow" if n < 3000 else "fast", n) for n in range(3100)]
    results = getattr(view, method)(wait_if_slow, items, star=True)
    fast = [next(results) for _ in range(100)]
    if method == "outcomes":
        fast = [outcome.value for outcome in fast]
    assert sorted(fast) == [("fast", n) for n in range(3000, 3100)]
    gate.wait_for(2)
    assert len(gate.arrived) == 2
    gate.open()
    results.close()
    wait_until(lambda: executor.stats().limited == 0)


def test_who_says_how_far_to_read_is_heeded(executor: HybridExecutor) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for n in range(1000):
            read.append(n)
            yield n

    view = executor.options(rate=1, per=LONG, burst=1)
    results = view.map_unordered(square, items(), buffersize=5)
    assert next(results) == 0
    assert len(read) <= 6
    results.close()  # type: ignore[attr-defined]


def test_a_timeout_counts_from_the_start(executor: HybridExecutor) -> None:
    view = executor.options(rate=1, per=0.5, burst=1, timeout=0.4)
    assert len(list(view.map(nap, [0.0, 0.0]))) == 2
    with pytest.raises(CallTimeout):
        view.submit(nap, LONG).result(timeout=30)


@pytest.mark.parametrize(("error", "arguments"), [(ValueError, ()), (RetryAfter, (0,))])
def test_each_retry_is_a_start(
    executor: HybridExecutor, tmp_path: Path, error: type[Exception], arguments: Any
) -> None:
    view = executor.options(rate=1, per=0.2, burst=1, retries=5, backoff=0)
    began = time.monotonic()
    runs = view.submit(fail_until, tmp_path / "runs", 3, error, *arguments).result(timeout=30)
    assert len(runs) == 3
    assert are_spaced(runs, began, 0.2)


def test_what_waits_holds_no_slot(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    waiting = executor.options(rate=1, per=LONG, burst=1)
    assert waiting.submit(square, 2).result(timeout=30) == 4
    late = [waiting.submit(square, n) for n in range(10)]
    assert [executor.submit(square, n).result(timeout=30) for n in range(3)] == [0, 1, 4]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in late)


@pytest.mark.slow
def test_limited_calls_have_slots_though_others_always_wait_for_them(make: Make) -> None:
    executor = make(max_workers=1, concurrency=2)
    view = executor.options(rate=1000, per=1.0)
    others = [executor.submit(nap, 0.005) for _ in range(4000)]
    assert list(view.map(square, range(10))) == [n * n for n in range(10)]
    assert not others[-1].done()
    busy = [view.submit(nap, 0.005) for _ in range(4000)]
    wait([executor.submit(square, 3)], timeout=30)
    assert not busy[-1].done()
    executor.shutdown(cancel_futures=True)


def test_shutdown_finishes_what_waits(make: Make) -> None:
    executor = make(max_workers=1)
    futures = [executor.options(rate=1, per=0.1).submit(square, n) for n in range(3)]
    view = executor.options(rate=1, per=0.1)
    futures += [view.submit(square, n) for n in range(3)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == [0, 1, 4] * 2


def test_cancel_all_cancels_what_waits(make: Make) -> None:
    executor = make(max_workers=1)
    view = executor.options(key=identity, rate_per_key=1, per=LONG)
    futures = [view.submit(square, 5) for _ in range(4)]
    assert futures[0].result(timeout=30) == 25
    executor.cancel_all()
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result(timeout=30)
    assert executor.stats().limited == 0
    assert executor.submit(square, 2).result(timeout=30) == 4


def test_calls_that_wait_are_pending(make: Make) -> None:
    executor = make(max_workers=1, max_pending=3)
    view = executor.options(rate=1, per=LONG, burst=1)
    futures = [view.submit(square, n) for n in range(3)]
    assert futures[0].result(timeout=30) == 0
    futures.append(view.submit(square, 3))
    submitted = threading.Event()
    thread = threading.Thread(target=lambda: (view.submit(square, 4), submitted.set()))
    thread.start()
    assert not submitted.wait(0.1)
    futures[1].cancel()
    thread.join(30)
    assert submitted.is_set()
    executor.shutdown(cancel_futures=True)


# -- keys -------------------------------------------------------------------------------------


def odd_only(n: int) -> object:
    if n % 2 == 0:
        raise KeyError(n)
    return n


def test_a_key_is_found_out_in_the_callers_thread(executor: HybridExecutor) -> None:
    threads: set[int] = set()

    def key(*args: Any, **kwargs: Any) -> object:
        threads.add(threading.get_ident())
        assert args + tuple(kwargs.values()) in [(3, 2), (1, 1)]
        return 0

    view = executor.options(key=key, per_key=1)
    assert view.submit(pow, 3, exp=2).result(timeout=30) == 9
    assert list(view.map(pow, [3, 1], [2, 1])) == [9, 1]
    assert list(view.map(pow, [[3, 2], (1, 1)], star=True)) == [9, 1]
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize(("key", "error"), [(odd_only, KeyError), (lambda n: [n], TypeError)])
def test_a_call_whose_key_cannot_be_found_out_fails(
    executor: HybridExecutor, key: Any, error: type[Exception]
) -> None:
    view = executor.options(key=key, per_key=1)
    failed = view.submit(square, 2).exception(timeout=30)
    assert type(failed) is error
    assert any("key of this call could not be found out" in n for n in failed.__notes__)
    outcomes = {o.item: o for o in view.outcomes(square, range(5))}
    assert type(outcomes[2].error) is error
    if key is odd_only:
        assert {n: o.value for n, o in outcomes.items() if o.ok} == {1: 1, 3: 9}


class Odd:
    """Has a key that runs code when it is looked for, once too often."""

    def __init__(self, looks: list[str]) -> None:
        self.looks = looks

    def __hash__(self) -> int:
        self.looks.append(threading.current_thread().name)
        return 1

    def __eq__(self, other: object) -> bool:
        self.looks.append(threading.current_thread().name)
        return isinstance(other, Odd)


def test_no_code_of_a_key_runs_in_the_librarys_threads(executor: HybridExecutor) -> None:
    looks: list[str] = []
    view = executor.options(key=lambda n: Odd(looks), per_key=1)
    runs = list(view.map(nap, [0.02] * 5))
    assert most_at_once(runs) == 1, "they are equal"
    assert set(looks) == {threading.current_thread().name}


def test_views_share_limits_unless_they_set_them(executor: HybridExecutor) -> None:
    view = executor.options(rate=1, per=LONG, burst=1)
    assert view.submit(square, 1).result(timeout=30) == 1
    derived = view.options(timeout=60).submit(square, 2)
    assert view.options(burst=2).submit(square, 3).result(timeout=30) == 9
    assert executor.options(rate=1, per=LONG).submit(square, 4).result(timeout=30) == 16
    assert view.options(rate=None).submit(square, 5).result(timeout=30) == 25
    assert not derived.done()
    assert derived.cancel()


def test_a_stream_is_a_call_with_a_key(executor: HybridExecutor) -> None:
    view = executor.options(key=identity, per_key=1)
    assert list(view.stream(range, 3)) == [0, 1, 2]
    with pytest.raises(KeyError):
        list(executor.options(key=odd_only, per_key=1).stream(range, 2))


def test_nothing_is_kept_of_the_last_call_when_it_has_ended(executor: HybridExecutor) -> None:
    future = executor.options(rate=1000).submit(square, 3)
    assert future.result() == 9
    known = weakref.ref(future)
    del future

    def is_gone() -> bool:
        gc.collect()
        return known() is None

    wait_until(is_gone)
