"""map_unordered and outcomes, items that hold all arguments, and rows of results."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from hybridexec import HybridExecutor, Outcome

from .conftest import Make
from .helpers import Gate, fail_on, identity, nap

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane(core=True)]

# -- map_unordered and outcomes -------------------------------------------------------------------


def test_map_unordered_yields_what_ends_first(executor: HybridExecutor, gate: Gate) -> None:
    results = executor.map_unordered(wait_if_first, itertools.repeat(gate), range(4))
    assert sorted(next(results) for _ in range(3)) == [1, 2, 3]
    gate.open()
    assert list(results) == [0]


def wait_if_first(gate: Gate, n: int) -> int:
    if n == 0:
        gate.wait(n)
    return n


def test_map_unordered_is_lazy_and_bounded(executor: HybridExecutor) -> None:
    read = itertools.count()
    results = executor.map_unordered(identity, read, buffersize=6)
    assert next(read) == 0
    assert len(list(itertools.islice(results, 100))) == 100
    assert next(read) <= 100 + 6 + 1
    results.close()


def test_map_unordered_bounds_an_endless_iterable_by_default(executor: HybridExecutor) -> None:
    results = executor.map_unordered(identity, itertools.count())
    assert len(set(itertools.islice(results, 10_000))) == 10_000
    results.close()


def test_a_map_that_a_shutdown_cuts_short_hurts_no_other_call(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=2)
    results = executor.map_unordered(identity, itertools.count(), buffersize=10)
    assert next(results) in range(10)
    waiting = [executor.submit(gate.wait, n) for n in range(20)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        for _ in results:
            pass  # the next calls are refused
    results.close()
    gate.open()
    assert [future.result(timeout=30) for future in waiting] == list(range(20))
    executor.shutdown()


def test_map_unordered_raises_or_yields_errors(executor: HybridExecutor) -> None:
    calls = (fail_on, itertools.repeat(2), range(5))
    with pytest.raises(ValueError, match="2 is bad"):
        list(executor.map_unordered(*calls))
    results = list(executor.map_unordered(*calls, return_exceptions=True))
    errors = [result for result in results if isinstance(result, ValueError)]
    assert len(results) == 5
    assert len(errors) == 1


@pytest.mark.every_lane(core=True, but=("cluster",))  # whose processes are not ours
def test_outcomes_names_each_item_and_how_it_ended(executor: HybridExecutor) -> None:
    outcomes = {o.item: o for o in executor.outcomes(reciprocal, [0, 1, 2])}
    assert all(isinstance(outcome, Outcome) for outcome in outcomes.values())
    assert outcomes[2].ok
    assert outcomes[2].value == outcomes[2].result() == 0.5
    assert not outcomes[0].ok
    assert isinstance(outcomes[0].error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        outcomes[0].result()
    for outcome in outcomes.values():
        assert outcome.attempts == 1
        assert outcome.seconds is not None
        assert outcome.worker in executor._processes


# -- items that hold all arguments -----------------------------------------------------------


def power(base: int, exponent: int = 2) -> int:
    return base**exponent


@pytest.mark.parametrize("more", [{}, {"buffersize": 2}, {"chunksize": 3}, {"timeout": 30}])
def test_map_takes_items_that_hold_all_arguments(
    executor: HybridExecutor, more: dict[str, Any]
) -> None:
    items = [(2, 3), [3, 2], (4,), iter((5, 1)), {6: None, 0: None}]
    assert list(executor.map(power, items, star=True, **more)) == [8, 9, 16, 5, 1]
    assert list(executor.options(timeout=30).map(power, [(2, 3)], star=True)) == [8]
    assert list(executor.map(power, [], star=True, **more)) == []


def test_a_generator_of_pairs_is_read_as_results_are_fetched(executor: HybridExecutor) -> None:
    pairs = ((n, 2) for n in itertools.count())
    for results in (
        executor.map(power, pairs, star=True, buffersize=10),
        executor.map_unordered(power, pairs, star=True, buffersize=10),
    ):
        assert len(list(itertools.islice(results, 500))) == 500
        results.close()  # type: ignore[attr-defined]
    assert next(pairs)[0] < 3000


def test_outcomes_of_items_that_hold_all_arguments_has_tuples(executor: HybridExecutor) -> None:
    items = [(2, 3), [3, 2], {4: None}]
    outcomes = {o.item: o.value for o in executor.outcomes(power, items, star=True)}
    assert outcomes == {(2, 3): 8, (3, 2): 9, (4,): 16}


def test_an_item_that_holds_no_arguments_fails_its_own_call(executor: HybridExecutor) -> None:
    def broken() -> Iterator[int]:
        yield 2
        raise LookupError("gone")

    items = [(2, 3), 7, None, broken(), (), (1, 2, 3), [lambda: 1, 2], (3, 2)]
    outcomes = list(executor.outcomes(power, items, star=True))
    assert sorted(o.value for o in outcomes if o.ok) == [8, 9]
    failed = {str(o.item)[:8]: o for o in outcomes if not o.ok}
    assert len(failed) == 6
    for item in ("7", "None"):
        error = failed[item].error
        assert isinstance(error, TypeError)
        assert "not iterable" in str(error)
        assert "star=True" in error.__notes__[0]
        assert failed[item].attempts == 0
    assert any(isinstance(o.error, LookupError) for o in failed.values())
    assert isinstance(failed["()"].error, TypeError)
    assert "power" in str(failed["(1, 2, 3"].error)
    results = executor.map(power, [(2, 3), 7, (3, 2)], star=True)
    assert next(results) == 8
    with pytest.raises(TypeError, match="not iterable"):
        next(results)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_items_that_hold_all_arguments_come_from_one_iterable(
    executor: HybridExecutor, count: int
) -> None:
    for method in (executor.map, executor.map_unordered, executor.outcomes):
        with pytest.raises(TypeError, match=f"star=True takes one iterable.* {count}$"):
            method(power, *[[(1, 2)]] * count, star=True)
        with pytest.raises(TypeError, match="star must be True or False, not int"):
            method(power, [(1, 2)], star=1)  # type: ignore[arg-type]


def test_items_that_hold_all_arguments_go_through_a_submit_of_ones_own(make: Make) -> None:
    executor = make()
    executor.submit = executor.submit  # type: ignore[method-assign]
    assert list(executor.map(power, [(2, 3), [3, 2]], star=True)) == [8, 9]


def reciprocal(n: int) -> float:
    return 1 / n


def test_outcomes_measures_the_run_in_the_worker(executor: HybridExecutor) -> None:
    (outcome,) = executor.outcomes(nap, [0.1])
    assert outcome.seconds is not None
    assert outcome.seconds >= 0.09


class Unloadable:
    """A function that travels, and cannot be loaded where it arrives."""

    def __call__(self, item: int) -> None:
        raise AssertionError

    def __reduce__(self) -> Any:
        return fail_late, ()


def fail_late() -> None:
    time.sleep(0.05)
    raise LookupError


def test_the_seconds_of_a_call_whose_function_cannot_be_loaded(executor: HybridExecutor) -> None:
    for outcome in executor.outcomes(Unloadable(), range(3)):
        assert isinstance(outcome.error, LookupError)
        assert outcome.attempts == 1
        assert outcome.seconds is not None
        assert 0.05 <= outcome.seconds < 30


def test_outcomes_of_several_iterables_has_tuples(executor: HybridExecutor) -> None:
    outcomes = executor.outcomes(pow, [2, 3], [3, 2])
    assert {o.item: o.value for o in outcomes} == {(2, 3): 8, (3, 2): 9}


# -- rows of results ------------------------------------------------------------------------------


def start_a_timer_now_and_then(n: int) -> object:
    if n % 3 != 2:
        return n
    timeout = gevent.Timeout(60)
    timeout.start()
    timeout.close()
    return [n]


def test_results_keep_to_their_calls_whatever_kinds_they_are_of(make: Make) -> None:
    results = list(make(max_workers=1).map(start_a_timer_now_and_then, range(3_000)))
    assert results == [[n] if n % 3 == 2 else n for n in range(3_000)]


def keep_the_cpu(until: float | str) -> None:
    if isinstance(until, str):
        while not os.path.exists(until):
            pass
        return
    end = time.monotonic() + until
    while time.monotonic() < end:
        pass


def test_a_result_leaves_though_the_next_call_keeps_the_cpu(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    list(executor.map(keep_the_cpu, [0] * 5_000))
    go_on = tmp_path / "go on"
    # The fourth ends so late that nobody looks up any more for the first three's sake.
    results = executor.map_unordered(keep_the_cpu, [0, 0, 0, 0.3, str(go_on)])
    for _ in range(4):
        next(results)
    go_on.touch()
    assert list(results) == [None]
