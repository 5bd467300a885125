"""Executors for the contract tests, of every start method."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor
from hybridexec.options import LANES
from hybridexec.parent.engine import connection

from .helpers import Gate
from .lanes import CLUSTER, cluster, on_cluster, start_in

#: "forkserver" is the default unless ``initargs`` need more.
METHODS = ["forkserver", "spawn", "fork"]
#: Seconds that calls have to end after their test.
PATIENCE = 60


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what ``slow_on`` calls so; leave out what is the same on a cluster."""
    items[:] = [item for item in items if not _is_repeated(item)]
    for item in items:
        callspec = getattr(item, "callspec", None)
        for mark in item.iter_markers("slow_on"):
            if callspec and not set(mark.args).isdisjoint(map(str, callspec.params.values())):
                item.add_marker(pytest.mark.slow)


def _is_repeated(item: pytest.Item) -> bool:
    """Whether it differs from another by its start method only, which a cluster has none of."""
    callspec = getattr(item, "callspec", None)
    params = {} if callspec is None else callspec.params
    start_method = params.get("executor", params.get("method"))
    return params.get("lane") == CLUSTER and start_method not in {None, METHODS[0]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what ``every_lane`` marks in each lane, and on a cluster, and what ``on_cluster`` marks
    there; only the core of it is fast everywhere."""
    marks = list(metafunc.definition.iter_markers())  # the closest first
    names = ("every_lane", "on_cluster", "this_machine")
    mark = next((mark for mark in marks if mark.name in names), None)
    if mark is None or mark.name == "this_machine":
        return
    if "lane" in metafunc.fixturenames:
        others = () if mark.kwargs.get("core") else (pytest.mark.slow,)
        kinds = (*LANES[1:], CLUSTER) if mark.name == "every_lane" else (CLUSTER,)
        lanes = [pytest.param(lane, marks=others) for lane in kinds]
        left_out = mark.kwargs.get("but", ())
        chosen = [LANES[0], *(each for each in lanes if each.values[0] not in left_out)]
        metafunc.parametrize("lane", chosen, indirect=True, scope="module")


@pytest.fixture(autouse=True)
def patience_with_fork_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a fork server tells how its workers have ended."""
    monkeypatch.setattr(connection, "_STATUS_PATIENCE", float(PATIENCE))


Make = Callable[..., HybridExecutor]


def make_in(lane: str, method: str | None, **arguments: Any) -> HybridExecutor:
    """An executor that runs its calls in that lane, unless it goes by their functions; or on a
    cluster, by one node with as many workers."""
    if lane == CLUSTER:
        return on_cluster({"max_workers": 2, **arguments})
    made = make_executor(method, **arguments)
    return made if lane == LANES[0] else start_in(lane, made)


def make_executor(method: str | None, **arguments: Any) -> HybridExecutor:
    context = None if method is None else multiprocessing.get_context(method)
    return HybridExecutor(**{"max_workers": 2, "mp_context": context, **arguments})


@pytest.fixture(scope="module")
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """The lane in which executors run what they are given themselves, or that they run it on a
    cluster."""
    lane = str(getattr(request, "param", LANES[0]))
    if lane != CLUSTER:
        yield lane
        return
    pytest.importorskip("distributed")
    with cluster():  # for no longer: other tests look which processes this one has
        yield lane


@pytest.fixture(scope="module", params=METHODS)
def executor(request: pytest.FixtureRequest, lane: str) -> Iterator[HybridExecutor]:
    """One executor for all tests of a module that leave it as they found it."""
    with make_in(lane, request.param) as made:
        yield made


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    return str(request.param)


def _factory(method: str | None, lane: str) -> Iterator[Make]:
    made: list[HybridExecutor] = []

    def make(**arguments: Any) -> HybridExecutor:
        if lane == "thread" and "concurrency" in arguments:
            arguments.setdefault("threads", arguments["concurrency"])
        made.append(make_in(lane, method, **arguments))
        return made[-1]

    yield make
    for executor in made:
        # A call of a test that has failed may never end.
        killer = threading.Timer(PATIENCE, executor.kill_workers)
        killer.start()
        executor.shutdown(cancel_futures=True)
        killer.cancel()


@pytest.fixture
def make(lane: str) -> Iterator[Make]:
    """Makes executors of the default start method; ends them after the test."""
    yield from _factory(None, lane)


@pytest.fixture
def make_each(method: str | None, lane: str) -> Iterator[Make]:
    """Makes executors of each start method in turn; ends them after the test."""
    yield from _factory(method, lane)


@pytest.fixture
def make_threads(make: Make) -> Make:
    """As ``make``, for executors whose calls run in native threads."""
    return lambda **arguments: start_in("thread", make(**arguments))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is open at the end of the test, however that comes."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()
