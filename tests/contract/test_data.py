"""Dicts, objects and their like, which travel packed: each call has its own, its own fate too."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from hybridexec import HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, identity, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


@dataclasses.dataclass
class Page:
    url: str
    links: list[Any]


def record(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"n{number}", "tags": ["a", {"b": [number]}], "ok": None}


def page(number: int) -> Page:
    return Page(f"http://{number}", [number, Page("", [])])


def text_and_number(number: int) -> tuple[str, int]:
    return f"t{number}", number


def floats(number: int) -> list[float]:
    return [number + each / 7 for each in range(100)]


def mixed(number: int) -> Any:
    """Each kind in turn, and what cannot be packed."""
    kinds: list[Callable[[int], Any]] = [
        record,
        page,
        text_and_number,
        floats,
        str,
        float,
        lambda number: {number: b"x" * 40_000},
        lambda number: [b"y" * 300_000][: number % 2],
    ]
    return kinds[number % len(kinds)](number)


KINDS = [record, page, text_and_number, floats, mixed]


def add_to(value: dict[str, list[int]]) -> int:
    value["list"].append(1)
    return len(value["list"])


def first_of(*arguments: Any, **named: Any) -> Any:
    return [arguments, named]


_kept: list[Any] = []


def the_same_list(number: int) -> list[Any]:
    if not _kept:
        _kept.append([])
    return _kept


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_all_kinds_come_back_in_order(
    executor: HybridExecutor, kind: Callable[[int], Any]
) -> None:
    values = [kind(number) for number in range(3000 if kind is not mixed else 400)]
    assert list(executor.map(identity, values)) == values
    calls = [executor.submit(identity, value) for value in values[:1000]]
    assert [call.result() for call in calls] == values[:1000]
    unordered = list(executor.map_unordered(identity, enumerate(values)))
    assert [value for _, value in sorted(unordered, key=lambda pair: pair[0])] == values
    outcomes = list(executor.outcomes(identity, values[:50]))
    assert all(outcome.item == outcome.value for outcome in outcomes)
    assert list(executor.map(first_of, values[:300], range(300))) == [
        [(value, number), {}] for number, value in enumerate(values[:300])
    ]
    assert list(executor.map(first_of, ((value,) for value in values[:300]), star=True)) == [
        [(value,), {}] for value in values[:300]
    ]
    assert executor.submit(identity, values[0]).result() == values[0]
    assert executor.submit(first_of, values[0], key=values[1]).result() == [
        (values[0],),
        {"key": values[1]},
    ]


def test_calls_share_no_object(executor: HybridExecutor) -> None:
    shared = {"list": [0]}
    assert set(executor.map(add_to, [shared] * 500)) == {2}
    inner = [0]
    assert set(executor.map(add_to, ({"list": inner} for _ in range(500)))) == {2}
    assert {call.result() for call in [executor.submit(add_to, shared) for _ in range(500)]} == {2}
    assert shared == {"list": [0]}


def test_results_share_no_object(executor: HybridExecutor) -> None:
    results = list(executor.map(the_same_list, range(500)))
    assert len({id(result) for result in results}) == 500
    assert len({id(result[0]) for result in results}) == 500


def test_what_an_item_refers_to_twice_is_one_object_in_the_call(executor: HybridExecutor) -> None:
    item: dict[str, Any] = {"list": [0]}
    item["again"] = item["list"]
    item["itself"] = item
    for result in executor.map(identity, [item] * 100):
        assert result["again"] is result["list"]
        assert result["itself"] is result


def test_an_item_may_be_changed_as_soon_as_it_is_submitted(executor: HybridExecutor) -> None:
    item = {"number": 0}
    calls = []
    for number in range(500):
        item["number"] = number
        calls.append(executor.submit(identity, item))
    assert [call.result()["number"] for call in calls] == list(range(500))


# -- failures -------------------------------------------------------------------------------------


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that this process has, and no other can import."""
    module = types.ModuleType("absent_in_workers")
    kind = type("Absent", (), {"__module__": module.__name__, "__qualname__": "Absent"})
    vars(module)["Absent"] = kind
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def make_here(number: int) -> Any:
    """A result of a class that only the worker has; for others, a plain dict."""
    if number % 10:
        return {"number": number}
    module = sys.modules.setdefault("only_in_a_worker", types.ModuleType("only_in_a_worker"))
    if not hasattr(module, "Kind"):
        vars(module)["Kind"] = type("Kind", (), {"__module__": module.__name__})
    return {"number": number, "it": module.Kind()}


def raise_at_tens(item: dict[str, int]) -> dict[str, int]:
    if item["number"] % 10 == 0:
        raise ValueError(item["number"])
    return item


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_an_item_that_cannot_be_unpickled_fails_alone(
    make_each: Make, absent: types.ModuleType
) -> None:
    executor = make_each(max_workers=1)
    items = [
        {"number": number, "it": absent.Absent() if number in (3, 70) else None}
        for number in range(200)
    ]
    outcomes = sorted(executor.outcomes(identity, items), key=lambda each: each.item["number"])
    calls = [executor.submit(identity, item) for item in items]
    for number, (outcome, call) in enumerate(zip(outcomes, calls, strict=True)):
        if number in (3, 70):
            assert isinstance(outcome.error, ModuleNotFoundError)
            assert isinstance(call.exception(), ModuleNotFoundError)
        else:
            assert outcome.value == call.result() == items[number]


def test_a_result_that_cannot_be_unpickled_fails_alone(executor: HybridExecutor) -> None:
    calls = [executor.submit(make_here, number) for number in range(200)]
    outcomes = executor.map_unordered(make_here, range(200), return_exceptions=True)
    failed = [result for result in outcomes if isinstance(result, ModuleNotFoundError)]
    assert len(failed) == 20
    assert "could not be unpickled" in failed[0].__notes__[-1]
    for number, call in enumerate(calls):
        if number % 10:
            assert call.result() == {"number": number}
        else:
            assert isinstance(call.exception(), ModuleNotFoundError)
    ordered = executor.map(make_here, range(1, 200))
    assert [next(ordered)["number"] for _ in range(9)] == list(range(1, 10))
    with pytest.raises(ModuleNotFoundError):
        next(ordered)


def test_errors_among_results_are_their_calls_own(executor: HybridExecutor) -> None:
    items = [{"number": number} for number in range(500)]
    got = list(executor.map_unordered(raise_at_tens, items, return_exceptions=True))
    assert sorted(error.args[0] for error in got if isinstance(error, ValueError)) == list(
        range(0, 500, 10)
    )
    assert sorted(each["number"] for each in got if isinstance(each, dict)) == [
        number for number in range(500) if number % 10
    ]


# -- calls that are taken back, cancelled, lost ---------------------------------------------------


def nap(item: dict[str, Any]) -> dict[str, Any]:
    time.sleep(item["seconds"])
    return {**item, "pid": os.getpid()}


def kill_itself(item: dict[str, Any]) -> dict[str, Any]:
    if item["number"] == 30 and not os.path.exists(item["path"]):
        with open(item["path"], "w"):
            os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_calls_that_a_busy_worker_gives_back_keep_their_items(make: Make) -> None:
    executor = make(max_workers=2, concurrency=1)
    items = [{"number": number, "seconds": 0.3 if number == 0 else 0.0} for number in range(3000)]
    results = list(executor.map(nap, items))
    assert [result["number"] for result in results] == list(range(3000))


def test_results_of_calls_that_wait_in_a_crowd_are_their_own(executor: HybridExecutor) -> None:
    items = [{"number": number, "seconds": number % 7 / 200} for number in range(1500)]
    for results in (
        executor.map(nap, items),
        map(Future.result, [executor.submit(nap, item) for item in items]),
    ):
        assert [result["number"] for result in results] == list(range(1500))


def test_cancelled_calls_do_not_shift_the_items_of_others(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    blocker = executor.submit(gate.wait, 0)
    gate.wait_for(1)
    calls = [executor.submit(identity, {"number": number}) for number in range(400)]
    for call in calls[::3]:
        assert call.cancel()
    gate.open()
    blocker.result()
    for number, call in enumerate(calls):
        if number % 3:
            assert call.result() == {"number": number}
        else:
            assert call.cancelled()


@pytest.mark.slow
def test_after_a_workers_death_items_are_sent_again_whole(make: Make, tmp_path: Any) -> None:
    executor = make(max_workers=1, concurrency=1).options(on_worker_loss="retry")
    items = [{"number": number, "path": str(tmp_path / "died")} for number in range(200)]
    assert list(executor.map(kill_itself, items)) == items


def test_a_call_that_dies_with_its_worker_is_lost_alone(make: Make, tmp_path: Any) -> None:
    executor = make(max_workers=1, concurrency=1)
    items = [{"number": number, "path": str(tmp_path / "died")} for number in range(200)]
    got = list(executor.outcomes(kill_itself, items))
    lost = [outcome.item["number"] for outcome in got if isinstance(outcome.error, WorkerLost)]
    assert max(lost) == 30  # and those whose results it was about to send
    assert len(got) == 200
    assert all(outcome.value == outcome.item for outcome in got if outcome.error is None)


def test_a_stopped_call_keeps_the_next_ones_items_right(make: Make) -> None:
    executor = make(max_workers=1, concurrency=2)
    items = [{"number": number, "seconds": 30.0 if number == 0 else 0.0} for number in range(300)]
    calls = [executor.submit(nap, item) for item in items]
    wait_until(calls[0].running, "the first one runs")
    assert calls[0].cancel()
    assert [call.result()["number"] for call in calls[1:]] == list(range(1, 300))
