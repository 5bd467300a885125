"""Making calls: submit, map and its relatives, views, waiting for futures."""

from __future__ import annotations

import fcntl
import inspect
import itertools
import os
import struct
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, as_completed, wait
from pathlib import Path
from typing import Any

import gevent
import pytest

from hybridexec import CallTimeout, ExecutorView, HybridExecutor, Outcome

from .conftest import Make
from .helpers import Gate, identity, nap, square, wait_until

# -- submit ---------------------------------------------------------------------------------------


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def fail_on(bad: int, value: int) -> int:
    if value == bad:
        raise ValueError(f"{value} is bad")
    return value


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
    wait_until(lambda: executor.stats().pending == 0 and not unread(executor))
    gate.open()
    executor.shutdown()
    assert sorted(gate.arrived) == ["0", "1"]


def unread(executor: HybridExecutor) -> int:
    """How many bytes the only worker has not read yet."""
    (connection,) = executor._engine._supervisor.connections.values()
    (count,) = struct.unpack("i", fcntl.ioctl(connection.calls_fd, termios.FIONREAD, bytes(4)))
    return int(count)


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
    assert next(results) == 0
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


# -- options ----------------------------------------------------------------------------------


def test_options_are_parameters_that_help_and_completion_show() -> None:
    for kind in (HybridExecutor, ExecutorView):
        parameters = inspect.signature(kind.options).parameters
        assert list(parameters) == [
            "self", "timeout", "retries", "retry_on", "backoff", "on_worker_loss"
        ]  # fmt: skip
        assert parameters["timeout"].annotation == "float | None"
        assert "timeout: seconds a call may run" in inspect.getdoc(kind.options)  # type: ignore[operator]


def test_an_option_that_is_not_given_is_the_views(executor: HybridExecutor) -> None:
    view = executor.options(timeout=0.05, retries=1)
    with pytest.raises(CallTimeout) as caught:
        view.options(backoff=0).submit(time.sleep, 30).result(timeout=30)
    assert "Run 1 of this call" in caught.value.__notes__[-1]
    assert view.options(timeout=None).submit(nap, 0.1).result(timeout=30)
    with pytest.raises(TypeError, match="unexpected keyword argument 'retry'"):
        view.options(retry=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        view.options(5)  # type: ignore[misc]


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


# -- views ----------------------------------------------------------------------------------------


def test_a_view_is_an_executor_of_its_own(executor: HybridExecutor) -> None:
    view = executor.options(timeout=60)
    assert isinstance(view, Executor)
    assert view.submit(square, 3).result() == 9
    assert list(view.map(square, [1, 2])) == [1, 4]
    assert sorted(view.map_unordered(square, [1, 2])) == [1, 4]
    assert [o.value for o in view.options(timeout=30).outcomes(square, [5])] == [25]
    assert view._max_workers == executor._max_workers


def test_a_views_shutdown_is_the_executors(make: Make) -> None:
    executor = make()
    with executor.options(timeout=60) as view:
        assert view.submit(square, 2).result() == 4
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 2)


def test_an_unknown_option_is_a_type_error_that_names_it(executor: HybridExecutor) -> None:
    with pytest.raises(TypeError, match="speed"):
        executor.options(speed=11)
    with pytest.raises(TypeError, match="timed"):
        executor.options(timed=True)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        ("1", TypeError),
    ],
)
def test_a_bad_timeout_is_refused(
    executor: HybridExecutor, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="timeout"):
        executor.options(timeout=value)


def test_a_calls_timeout_stops_it_and_leaves_others_alone(
    executor: HybridExecutor, gate: Gate
) -> None:
    other = executor.submit(gate.wait, "other")
    late = executor.options(timeout=0.2).submit(time.sleep, 3600)
    with pytest.raises(CallTimeout) as caught:
        late.result(timeout=30)
    assert isinstance(caught.value, TimeoutError)
    assert "0.2" in str(caught.value)
    gate.open()
    assert other.result() == "other"


def test_a_timeout_counts_from_the_calls_start(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    view = executor.options(timeout=0.6)
    # Together they take longer than the timeout of each.
    assert len(list(view.map(nap, [0.3] * 4))) == 4


def test_a_timeout_ends_items_of_a_map_one_by_one(executor: HybridExecutor) -> None:
    outcomes = list(executor.options(timeout=0.3).outcomes(nap, [0.0, 3600.0, 0.01]))
    assert {o.item for o in outcomes if o.ok} == {0.0, 0.01}
    assert [type(o.error) for o in outcomes if not o.ok] == [CallTimeout]


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


# -- max_pending ----------------------------------------------------------------------------------


def test_max_pending_holds_submit_until_a_call_ends(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, max_pending=2)
    first = [executor.submit(gate.wait, n) for n in range(2)]
    third: list[Future[Any]] = []
    thread = threading.Thread(target=lambda: third.append(executor.submit(square, 3)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    gate.open()
    thread.join(30)
    assert third[0].result() == 9
    assert [future.result() for future in first] == [0, 1]


def test_cancelling_makes_room(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, max_pending=1)
    future = executor.submit(gate.wait, "a")
    assert future.cancel()
    assert executor.submit(square, 4).result(timeout=30) == 16


def test_a_submit_from_a_callback_never_waits_for_room(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, max_pending=1)
    second: list[Future[Any]] = []
    future = executor.submit(gate.wait, "a")
    future.add_done_callback(lambda _: second.append(executor.submit(square, 5)))
    future.add_done_callback(lambda _: second.append(executor.submit(square, 6)))
    gate.open()
    wait_until(lambda: len(second) == 2, "both submits")
    assert [future.result(timeout=30) for future in second] == [25, 36]


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
