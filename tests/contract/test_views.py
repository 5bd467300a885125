"""Views and their options, and max_pending."""

from __future__ import annotations

import inspect
import threading
import time
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from hybridexec import CallTimeout, ExecutorView, HybridExecutor

from .conftest import Make
from .helpers import Gate, nap, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

# -- options ----------------------------------------------------------------------------------


def test_options_are_parameters_that_help_and_completion_show() -> None:
    for kind in (HybridExecutor, ExecutorView):
        parameters = inspect.signature(kind.options).parameters
        assert list(parameters) == [
            "self", "timeout", "retries", "retry_on", "backoff", "on_worker_loss", "propagate",
            "lane", "stream_buffersize", "rate", "per", "burst", "key", "per_key", "rate_per_key",
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


def test_a_timeout_counts_from_the_calls_start(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    first = executor.submit(gate.wait, "first")
    gate.wait_for(1)
    timed = executor.options(timeout=1.0).submit(square, 3)
    time.sleep(1.2)  # it waits for longer than it may run
    gate.open()
    assert (first.result(timeout=30), timed.result(timeout=30)) == ("first", 9)


def test_a_timeout_ends_items_of_a_map_one_by_one(executor: HybridExecutor) -> None:
    outcomes = list(executor.options(timeout=0.3).outcomes(nap, [0.0, 3600.0, 0.01]))
    assert {o.item for o in outcomes if o.ok} == {0.0, 0.01}
    assert [type(o.error) for o in outcomes if not o.ok] == [CallTimeout]


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
