"""Code written for ProcessPoolExecutor, and what of its details it leans on."""

from __future__ import annotations

import concurrent.futures
import functools
import io
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tqdm
import tqdm.contrib.concurrent

from hybridexec import HybridExecutor


def double(number: int) -> int:
    return 2 * number


def add(left: int, right: int) -> int:
    return left + right


def slowly(number: int) -> int:
    time.sleep(0.02)
    return number


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise ValueError(number)
    return number


def chunk_of(function: Callable[[Any], Any], chunk: list[Any]) -> list[Any]:
    return [function(item) for item in chunk]


def ask(url: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, json={"retry": 5}, headers={"x-request": "7"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.get(url).raise_for_status()


def test_an_error_of_httpx_is_caught_as_such_with_its_response() -> None:
    with HybridExecutor(1) as executor:
        with pytest.raises(httpx.HTTPStatusError, match="429 Too Many Requests") as caught:
            executor.submit(ask, "http://name/").result()
        response = caught.value.response
        assert (response.status_code, response.json()) == (429, {"retry": 5})
        assert response.headers["x-request"] == "7"
        assert caught.value.request.url == "http://name/"


# -- tqdm ---------------------------------------------------------------------------------------


@pytest.fixture
def fresh_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm keeps the lock of its first use in its class."""
    monkeypatch.setattr(tqdm.tqdm, "_lock", None, raising=False)
    monkeypatch.delattr(tqdm.tqdm, "_lock")


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_tqdm")
@pytest.mark.parametrize("lock_name", ["mp_lock", ""])
def test_the_map_that_tqdm_makes_of_an_executor(lock_name: str) -> None:
    """It reads the executor's class, sends its lock in initargs, and iterates ``map``."""
    shown = io.StringIO()
    results = tqdm.contrib.concurrent._executor_map(
        HybridExecutor,
        add,
        range(50),
        range(50),
        max_workers=2,
        chunksize=5,
        lock_name=lock_name,
        file=shown,
        total=50,
    )
    assert results == [2 * number for number in range(50)]
    assert "50/50" in shown.getvalue()


@pytest.mark.usefixtures("fresh_tqdm")
def test_process_map_with_the_class_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", HybridExecutor)
    shown = io.StringIO()
    results = tqdm.contrib.concurrent.process_map(
        double, range(100), max_workers=2, chunksize=10, file=shown
    )
    assert results == [2 * number for number in range(100)]
    assert "100/100" in shown.getvalue()


def test_a_progress_bar_around_as_completed() -> None:
    shown = io.StringIO()
    with HybridExecutor(2) as executor:
        futures = {executor.submit(double, number): number for number in range(50)}
        bar = tqdm.tqdm(concurrent.futures.as_completed(futures), total=50, file=shown)
        assert all(future.result() == 2 * futures[future] for future in bar)
    assert "50/50" in shown.getvalue()


# -- recipes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["forkserver", "spawn"])
def executor(request: pytest.FixtureRequest) -> Iterator[HybridExecutor]:
    with HybridExecutor(2, multiprocessing.get_context(request.param)) as made:
        yield made


def test_it_is_an_executor(executor: HybridExecutor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(executor.options(timeout=1), concurrent.futures.Executor)
    assert isinstance(executor.submit(double, 1), concurrent.futures.Future)


def test_batches_by_the_number_of_workers(executor: HybridExecutor) -> None:
    """As schedulers do that take any executor: one batch per worker, sized by a private name."""
    workers = executor._max_workers
    assert workers == 2
    items = list(range(101))
    batches = [items[start::workers] for start in range(workers)]
    futures = [executor.submit(chunk_of, double, batch) for batch in batches]
    results = [result for future in futures for result in future.result()]
    assert sorted(results) == [2 * n for n in items]


class Counting(HybridExecutor):
    """A subclass that watches calls go by."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.submitted: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.submitted.append((fn, args))
        return super().submit(fn, *args, **kwargs)


def test_map_goes_through_an_overridden_submit() -> None:
    with Counting(1) as executor:
        assert list(executor.map(double, range(5))) == [0, 2, 4, 6, 8]
        assert executor.submitted == [(double, (number,)) for number in range(5)]


def test_map_goes_through_a_replaced_submit() -> None:
    with HybridExecutor(1) as executor:
        original = executor.submit
        seen = []

        def submit(fn: Callable[..., Any], /, *args: Any) -> Any:
            seen.append(args)
            return original(functools.partial(fn, 10), *args)

        executor.submit = submit
        assert list(executor.map(add, range(3))) == [10, 11, 12]
        assert seen == [(0,), (1,), (2,)]


class Bounded:
    """The recipe of a wrapper that lets so many calls be pending."""

    def __init__(self, executor: concurrent.futures.Executor, bound: int) -> None:
        self.executor = executor
        self.semaphore = threading.BoundedSemaphore(bound)
        self.most = 0
        self.pending = 0
        self.lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], *args: Any) -> concurrent.futures.Future:
        self.semaphore.acquire()
        with self.lock:
            self.pending += 1
            self.most = max(self.most, self.pending)
        future = self.executor.submit(fn, *args)
        future.add_done_callback(self.release)
        return future

    def release(self, future: concurrent.futures.Future) -> None:
        with self.lock:
            self.pending -= 1
        self.semaphore.release()


def test_a_wrapper_with_a_semaphore(executor: HybridExecutor) -> None:
    bounded = Bounded(executor, 10)
    futures = [bounded.submit(slowly, number) for number in range(100)]
    assert [future.result() for future in futures] == list(range(100))
    assert bounded.most <= 10


def rolling(
    executor: concurrent.futures.Executor,
    fn: Callable[[int], int],
    items: Iterable[int],
    width: int,
) -> Iterator[int]:
    """The recipe of a window of futures that is refilled as they end."""
    waiting: set[concurrent.futures.Future] = set()
    for item in items:
        if len(waiting) >= width:
            done, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            yield from (future.result() for future in done)
        waiting.add(executor.submit(fn, item))
    for future in concurrent.futures.as_completed(waiting):
        yield future.result()


def test_a_rolling_window_of_futures(executor: HybridExecutor) -> None:
    assert sorted(rolling(executor, double, range(300), 20)) == [2 * n for n in range(300)]


def test_first_exception_cancels_the_rest(executor: HybridExecutor) -> None:
    futures = [executor.submit(fail_at, number, 3) for number in range(10)]
    futures += [executor.submit(time.sleep, 600) for _ in range(10)]
    done, waiting = concurrent.futures.wait(
        futures, timeout=60, return_when=concurrent.futures.FIRST_EXCEPTION
    )
    assert futures[3] in done
    for future in waiting:
        future.cancel()
    concurrent.futures.wait(futures, timeout=60)
    assert [type(future.exception()) for future in futures[:10] if not future.cancelled()].count(
        ValueError
    ) == 1
    assert all(future.cancelled() for future in futures[10:])


def test_callbacks_that_submit_more(executor: HybridExecutor) -> None:
    """A pipeline: each call's end starts the next stage."""
    ends: list[int] = []
    finished = threading.Event()

    def second(future: concurrent.futures.Future) -> None:
        ends.append(future.result())
        if len(ends) == 50:
            finished.set()

    def first(future: concurrent.futures.Future) -> None:
        executor.submit(double, future.result()).add_done_callback(second)

    for number in range(50):
        executor.submit(double, number).add_done_callback(first)
    assert finished.wait(60)
    assert sorted(ends) == [4 * number for number in range(50)]


def test_a_factory_in_the_place_of_the_class(tmp_path: Path) -> None:
    """Where a library calls ``ProcessPoolExecutor(max_workers=n)``, and concurrency is needed."""
    factory = functools.partial(HybridExecutor, concurrency=1)
    with factory(max_workers=2) as executor:
        pids = list(executor.map(meet_pid, [str(tmp_path)] * 2, range(2)))
    assert len(set(pids)) == 2


def meet_pid(folder: str, number: int) -> int:
    """The worker, once both calls run: with a concurrency of 1, in two of them."""
    Path(folder, str(number)).touch()
    deadline = time.monotonic() + 60
    while len(os.listdir(folder)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.getpid()


def test_the_processes_are_known_by_pid(executor: HybridExecutor) -> None:
    pid = executor.submit(os.getpid).result()
    process = executor._processes[pid]
    assert process.pid == pid
    assert process.is_alive()
    assert process.exitcode is None
