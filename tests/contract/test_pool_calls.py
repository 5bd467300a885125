"""A Pool's calls: what multiprocessing's would give, item by item."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import time
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.pool import RemoteTraceback
from typing import Any

import pytest

from hybridexec import Pool, WorkerLost

from .conftest import METHODS
from .helpers import Gate, fail_on, identity, leave, overlap, pid_of, square
from .pools import MakePool, pools

pytestmark = pytest.mark.slow_on("spawn", "fork")


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """One pool of two workers for all tests that leave it as they found it."""
    with pools(request.param) as make:
        yield make()


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    with pools(None) as make:
        yield make


def power(base: int, exponent: int = 2) -> int:
    return base**exponent


def generated(items: Any) -> Iterator[Any]:
    yield from items


def nap_here(seconds: float) -> tuple[int, tuple[float, float]]:
    began = time.monotonic()
    time.sleep(seconds)
    return pid_of(), (began, time.monotonic())


def test_single_calls(pool: Pool) -> None:
    assert pool.apply(power, (3,)) == 9
    assert pool.apply(power, [3], {"exponent": 3}) == 27
    result = pool.apply_async(power, (2,), {"exponent": 5})
    assert result.get() == result.get(5) == 32
    assert result.ready()
    assert result.successful()


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_lists_of_calls(pool: Pool, chunksize: int | None) -> None:
    assert pool.map(square, range(100), chunksize) == [n * n for n in range(100)]
    assert pool.map(square, generated(range(10)), chunksize) == [n * n for n in range(10)]
    pairs = [(n, 3) for n in range(50)]
    assert pool.starmap(power, pairs, chunksize) == [n**3 for n in range(50)]
    assert pool.map_async(square, {3, 4}, chunksize).get() in ([9, 16], [16, 9])
    assert pool.starmap_async(power, iter(pairs), chunksize).get() == [n**3 for n in range(50)]
    assert pool.map(square, [], chunksize) == pool.starmap_async(power, []).get() == []


@pytest.mark.parametrize("chunksize", [1, 7])
def test_results_as_they_come(pool: Pool, chunksize: int) -> None:
    squares = [n * n for n in range(100)]
    for items in (range(100), generated(range(100))):
        assert list(pool.imap(square, items, chunksize)) == squares
    for items in (range(100), generated(range(100))):
        assert sorted(pool.imap_unordered(square, items, chunksize)) == squares
    assert list(pool.imap(square, [])) == list(pool.imap_unordered(square, generated([]))) == []


def test_data_of_all_kinds_comes_back(pool: Pool) -> None:
    items = [{"n": n, "text": "x" * n} for n in range(300)] + [bytes(100_000), None, [1, [2]]]
    assert pool.map(identity, items) == items
    assert list(pool.imap(identity, items)) == items
    assert list(pool.imap(identity, generated(items), 10)) == items
    assert pool.apply(identity, (items,)) == items


def test_an_error_has_the_traceback_of_multiprocessings_pool(pool: Pool) -> None:
    for call in (
        lambda: pool.apply(fail_on, (3, 3)),
        lambda: pool.starmap(fail_on, [(3, 2), (3, 3)]),
        lambda: list(pool.imap(square, [1, "text"])),
    ):
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        assert type(caught.value.__cause__) is RemoteTraceback
        assert "Traceback" in caught.value.__cause__.tb


def test_a_map_fails_with_its_first_error_when_all_calls_have_ended(
    make_pool: MakePool, gate: Gate
) -> None:
    pool = make_pool(concurrency=3)
    result = pool.map_async(wait_or_fail, [(gate, "late"), (gate, "early"), (gate, None)])
    gate.wait_for(3)
    assert not result.ready()
    gate.open()
    with pytest.raises(ValueError, match="late"):
        result.get(30)
    assert result.ready()
    assert not result.successful()


def wait_or_fail(order: tuple[Gate, str | None]) -> None:
    gate, name = order
    gate.arrive(name)
    if name != "early":
        gate.wait(name)
    if name is not None:
        raise ValueError(name)


def test_an_iterator_goes_on_after_an_error(pool: Pool) -> None:
    results = pool.imap(power, [1, "two", 3])
    assert next(results) == 1
    with pytest.raises(TypeError):
        next(results)
    assert list(results) == [9]
    with pytest.raises(StopIteration):
        next(results)


def test_calls_run_though_nobody_iterates(pool: Pool, gate: Gate) -> None:
    results = pool.imap(gate.wait, generated(["one", "two"]))
    gate.wait_for(2)
    gate.open()
    assert list(results) == ["one", "two"]


def test_an_iterable_may_wait_for_the_results_of_its_items(pool: Pool) -> None:
    seen: queue.Queue[int] = queue.Queue()

    def items() -> Iterator[int]:
        number = 2
        while number < 100:
            yield number
            number = seen.get(timeout=30)

    got = []
    for result in pool.imap(square, items()):
        got.append(result)
        seen.put(result)
    assert got == [4, 16, 256]


def test_what_an_iterable_raises_comes_last(pool: Pool) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    for results in (pool.imap(square, items()), pool.imap_unordered(square, items())):
        assert sorted([next(results), next(results)]) == [1, 4]
        with pytest.raises(LookupError, match="no more"):
            next(results)
        assert list(results) == []
    with pytest.raises(LookupError):
        pool.map(square, items())


def test_endless_items_are_read_as_calls_end(make_pool: MakePool) -> None:
    read = []
    results = make_pool().imap_unordered(
        identity,
        (read.append(n) or n for n in iter(int, 1)),
        buffersize=5,  # type: ignore[func-returns-value]
    )
    assert [next(results) for _ in range(20)] == [0] * 20
    assert len(read) <= 25


def test_a_result_may_take_too_long(pool: Pool, gate: Gate) -> None:
    result, results = pool.apply_async(gate.wait, ("one",)), pool.imap(gate.wait, ["two"])
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    result.wait(0.01)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(0.01)
    gate.open()
    assert result.get(30) == "one"
    assert results.next(timeout=30) == "two"


def test_a_call_has_its_process_to_itself(make_pool: MakePool) -> None:
    times: dict[int, list[tuple[float, float]]] = {}
    for pid, time_ in make_pool().map(nap_here, [0.01] * 10):
        times.setdefault(pid, []).append(time_)
    assert len(times) <= 2
    for spans in times.values():
        spans.sort()
        assert not any(overlap(*pair) for pair in pairwise(spans))


def test_a_process_may_have_many_calls_at_once(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, concurrency=5)
    result = pool.map_async(gate.wait, range(5))
    gate.wait_for(5)
    gate.open()
    assert result.get(30) == list(range(5))


def test_a_worker_that_dies_fails_its_call_and_the_pool_goes_on(pool: Pool) -> None:
    with pytest.raises(WorkerLost):
        pool.apply(leave, (3,))
    results = pool.imap(leave_if, [1, None, 2])
    assert next(results) == 1
    with pytest.raises(WorkerLost):
        next(results)
    assert next(results) == 2


def leave_if(value: int | None) -> int:
    if value is None:
        leave(3)
        raise AssertionError
    return value


def test_what_cannot_be_pickled_fails_its_own_call(pool: Pool) -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise RuntimeError("leave me here")

    with pytest.raises(RuntimeError, match="leave me here"):
        pool.apply(identity, (Refuses(),))
    results = pool.imap(identity, [1, Refuses(), 3])
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="leave me here"):
        next(results)
    assert next(results) == 3
    with pytest.raises(RuntimeError, match="leave me here"):
        pool.map(identity, [1, Refuses(), 3])
    with pytest.raises(TypeError, match="not iterable"):
        pool.starmap(power, [(1, 2), 3])


def test_lambdas_are_carried(pool: Pool) -> None:
    three = 3
    assert pool.map(lambda n: n * three, [1, 2]) == [3, 6]
    assert pool.apply(lambda: lambda: three)() == 3


async def square_later(value: int) -> int:
    await asyncio.sleep(0)
    return value * value


def test_async_functions_run_in_their_lane(make_pool: MakePool) -> None:
    pool = make_pool()
    assert pool.apply(square_later, (3,)) == 9  # type: ignore[comparison-overlap]  # as it says
    assert pool.map(square_later, range(3)) == [0, 1, 4]  # type: ignore[comparison-overlap]
    assert list(pool.imap(square_later, range(3))) == [0, 1, 4]  # type: ignore[comparison-overlap]
