"""Making calls: submit, map, and waiting for futures."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor
from hybridexec.wire import messages

from .conftest import Make
from .helpers import Gate, fail_on, identity, nap, square, wait_until

pytestmark = pytest.mark.every_lane

# -- submit ---------------------------------------------------------------------------------------


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def touch(folder: Path, value: int) -> int:
    (folder / str(value)).touch()
    return value


def test_submit_gives_a_future_of_the_result(executor: HybridExecutor) -> None:
    future = executor.submit(square, 7)
    assert isinstance(future, Future)
    assert future.result() == 49


def test_keyword_arguments_are_the_functions_whatever_their_names(
    executor: HybridExecutor,
) -> None:
    kwargs = {"fn": 1, "self": 2, "timeout": 3, "args": 4, "kwargs": 5, "retries": 6}
    assert executor.submit(everything, 0, **kwargs).result() == ((0,), kwargs)


def test_submit_runs_builtins_and_classes(executor: HybridExecutor) -> None:
    assert executor.submit(pow, 2, 10).result() == 1024
    assert executor.submit(dict, a=1).result() == {"a": 1}


def test_many_submits_each_get_their_own_result(executor: HybridExecutor) -> None:
    futures = [executor.submit(square, n) for n in range(2_000)]
    assert [future.result() for future in futures] == [n * n for n in range(2_000)]


def test_arguments_are_taken_as_they_are_when_submitted(executor: HybridExecutor) -> None:
    items = [1, 2]
    future = executor.submit(identity, items)
    items.append(3)
    assert future.result() == [1, 2]


@pytest.mark.every_lane(but=("cluster",))  # which tells of it a little later
def test_a_running_call_says_so(executor: HybridExecutor, gate: Gate) -> None:
    future = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    assert future.running()
    assert not future.done()
    gate.open()
    assert future.result() == "a"
    assert not future.running()


# -- map ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffersize", [None, 1, 7, 10_000])
def test_map_keeps_the_order_of_its_items(executor: HybridExecutor, buffersize: int | None) -> None:
    results = executor.map(square, range(300), buffersize=buffersize)
    assert list(results) == [n * n for n in range(300)]


def test_map_keeps_the_order_when_later_items_end_first(executor: HybridExecutor) -> None:
    pauses = [0.1, 0.05, 0.0]
    assert [
        end - began >= pause
        for pause, (began, end) in zip(pauses, executor.map(nap, pauses), strict=True)
    ] == [True, True, True]


@pytest.mark.parametrize("buffersize", [None, 3])
def test_map_over_several_iterables_ends_with_the_shortest(
    executor: HybridExecutor, buffersize: int | None
) -> None:
    iterables = ([2, 3, 4, 5], itertools.repeat(2), range(7, 10))
    results = executor.map(pow, *iterables, buffersize=buffersize)
    assert list(results) == [4 % 7, 9 % 8, 16 % 9]


def test_map_without_items_yields_nothing(executor: HybridExecutor) -> None:
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square)) == []


def test_map_takes_a_chunksize_and_one_items_error_is_its_own(executor: HybridExecutor) -> None:
    assert list(executor.map(square, range(50), chunksize=16)) == [n * n for n in range(50)]
    outcomes = executor.outcomes(fail_on, itertools.repeat(5), range(20))
    assert [o.item for o in outcomes if not o.ok] == [(5, 5)]


@pytest.mark.parametrize("through_submit", [False, True])
def test_the_calls_of_a_map_whose_items_fail_do_not_run_on(
    make: Make, gate: Gate, through_submit: bool
) -> None:
    executor = make(max_workers=1)
    if through_submit:
        executor.submit = executor.submit  # type: ignore[method-assign]

    def items() -> Iterator[str]:
        yield "first"
        gate.wait_for(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        executor.map(gate.wait, items())
    wait_until(lambda: executor.stats().running == 0)
    assert executor.submit(abs, -1).result(timeout=30) == 1


def test_map_raises_an_items_error_at_its_place(executor: HybridExecutor) -> None:
    results = executor.map(fail_on, itertools.repeat(3), range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3 is bad"):
        next(results)


@pytest.mark.parametrize("buffersize", [None, 2])
def test_map_timeout_ends_the_wait(
    executor: HybridExecutor, gate: Gate, buffersize: int | None
) -> None:
    results = executor.map(gate.wait, ["a", "b"], timeout=0.2, buffersize=buffersize)
    with pytest.raises(TimeoutError):
        next(results)


def test_map_timeout_of_zero_finds_nothing_done(executor: HybridExecutor, gate: Gate) -> None:
    results = executor.map(gate.wait, ["a"], timeout=0)
    with pytest.raises(TimeoutError):
        next(results)


def test_map_reads_all_items_at_once_in_the_callers_thread(executor: HybridExecutor) -> None:
    threads = []

    def items() -> Any:
        for n in range(3):
            threads.append(threading.current_thread())
            yield n

    executor.map(square, items())
    assert threads == [threading.current_thread()] * 3


def test_map_runs_every_item_even_if_nobody_iterates(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    executor.map(touch, itertools.repeat(tmp_path), range(20))
    wait_until(lambda: len(list(tmp_path.iterdir())) == 20, "20 items run")


def test_an_error_while_reading_items_reaches_the_caller(executor: HybridExecutor) -> None:
    def items() -> Any:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(executor.map(square, items()))


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_buffered_map_reads_no_further_than_its_bound(executor: HybridExecutor, gate: Gate) -> None:
    read = itertools.count()
    results = executor.map(gate.wait, read, buffersize=5)
    gate.wait_for(5)
    assert next(read) == 5
    gate.open()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    # At most the bound beyond what was fetched (and the one read above).
    assert next(read) <= 3 + 5 + 1


def test_buffered_map_serves_an_endless_iterable(executor: HybridExecutor) -> None:
    results = executor.map(square, itertools.count(), buffersize=10)
    assert list(itertools.islice(results, 500)) == [n * n for n in range(500)]
    results.close()


@pytest.mark.parametrize("lazily", [False, True])
def test_closing_map_cancels_what_has_not_started(make: Make, gate: Gate, lazily: bool) -> None:
    executor = make(max_workers=1, concurrency=1)
    results = executor.map(
        wait_after_first, itertools.repeat(gate), range(50), buffersize=50 if lazily else None
    )
    assert next(results) == 0
    gate.wait_for(2)
    results.close()
    # The calls that were sent ahead are dropped when the worker has read that they shall be.
    wait_until_heard(executor)
    gate.open()
    executor.shutdown()
    assert sorted(gate.arrived) == ["0", "1"]


def wait_until_heard(executor: HybridExecutor) -> None:
    """Wait until the workers have done what they were told: they answer in order."""
    engine = executor._engine
    supervisor = engine._supervisor
    answered = threading.Event()

    def ask() -> None:
        usual = supervisor._handlers[messages.Here.kind]

        def answer(*_: object) -> None:
            supervisor._handlers[messages.Here.kind] = usual
            answered.set()

        supervisor._handlers[messages.Here.kind] = answer
        for number in supervisor.connections:
            engine._pool.actions.send(number, messages.Where(()))

    engine._queue.post(ask)
    assert answered.wait(60)


def wait_after_first(gate: Gate, n: int) -> int:
    gate.arrive(n) if n == 0 else gate.wait(n)
    return n


def test_an_abandoned_buffered_map_still_ends(make: Make) -> None:
    executor = make()
    next(executor.map(square, itertools.count(), buffersize=10))
    executor.shutdown()
    assert executor.stats().workers == ()


# -- map goes through submit where somebody replaced that -----------------------------------------


class Counting(HybridExecutor):
    submitted = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("buffersize", [None, 2])
def test_a_subclass_that_overrides_submit_sees_maps_calls(buffersize: int | None) -> None:
    with Counting(max_workers=1) as executor:
        assert list(executor.map(square, range(5), buffersize=buffersize)) == [0, 1, 4, 9, 16]
        assert executor.submitted == 5


@pytest.mark.parametrize("buffersize", [None, 2])
def test_a_replaced_submit_of_one_instance_sees_maps_calls(
    make: Make, buffersize: int | None
) -> None:
    executor = make(max_workers=1)
    original = executor.submit
    seen = []

    def submit(fn: Any, /, *args: Any) -> Future[Any]:
        seen.append(args)
        return original(fn, *args)

    executor.submit = submit
    assert list(executor.map(square, range(3), buffersize=buffersize)) == [0, 1, 4]
    assert seen == [(0,), (1,), (2,)]


# -- waiting --------------------------------------------------------------------------------------


def test_wait_tells_done_from_not_done(executor: HybridExecutor, gate: Gate) -> None:
    slow, quick = executor.submit(gate.wait, "a"), executor.submit(square, 2)
    done, not_done = wait([slow, quick], timeout=30, return_when=FIRST_COMPLETED)
    assert (done, not_done) == ({quick}, {slow})
    gate.open()
    assert wait([slow, quick], timeout=30).done == {slow, quick}


def test_as_completed_yields_in_the_order_of_completion(
    executor: HybridExecutor, gate: Gate
) -> None:
    slow, quick = executor.submit(gate.wait, "a"), executor.submit(square, 2)
    completed = as_completed([slow, quick], timeout=30)
    assert next(completed) is quick
    gate.open()
    assert next(completed) is slow


def test_callbacks_get_the_future_once(executor: HybridExecutor, gate: Gate) -> None:
    future = executor.submit(gate.wait, "a")
    got: list[Future[Any]] = []
    future.add_done_callback(got.append)
    gate.open()
    wait_until(lambda: got, "the callback")
    assert got == [future]
