"""Calls on a cluster are made, and end, as on one machine."""

from __future__ import annotations

import itertools
import traceback
from concurrent.futures import CancelledError

import psutil
import pytest

from hybridexec import CallTimeout
from hybridexec.cluster import ClusterExecutor

from . import calls
from .calls import Marks
from .conftest import Connect
from .dasks import Dask
from .processes import wait_until


def test_submit_returns_a_future(executor: ClusterExecutor) -> None:
    assert executor.submit(calls.double, 21).result(30) == 42
    assert executor.submit(calls.swap, mapping={"a": 1}).result(30) == {1: "a"}


def test_map_keeps_the_order(executor: ClusterExecutor) -> None:
    assert list(executor.map(calls.double, range(2000))) == [*range(0, 4000, 2)]
    assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]


def test_map_unordered_yields_what_ends_first(executor: ClusterExecutor, marks: Marks) -> None:
    results = executor.map_unordered(wait_or_not, [marks] * 3, ["wait", "first", "second"])
    assert {next(results), next(results)} == {"first", "second"}
    marks.open()
    assert list(results) == ["wait"]


def wait_or_not(marks: Marks, name: str) -> str:
    return str(marks.wait(name) if name == "wait" else name)


def test_outcomes_name_item_and_failure(executor: ClusterExecutor) -> None:
    found = {each.item: each for each in executor.outcomes(calls.fail, range(3))}
    assert sorted(found) == [0, 1, 2]
    assert all(str(each.error) == f"{item} is bad" for item, each in found.items())


def test_calls_run_on_all_nodes(executor: ClusterExecutor, dask: Dask) -> None:
    places = set(executor.map(calls.nap_where, [0.3] * 100))
    assert {node for node, _ in places} == {node.name for node in dask.nodes}


def test_a_failure_tells_node_worker_and_call(executor: ClusterExecutor, dask: Dask) -> None:
    error = executor.submit(calls.fail, 7).exception(30)
    assert isinstance(error, ValueError)
    text = "".join(traceback.format_exception(error))
    assert "in fail" in text
    assert any(node.name in text for node in dask.nodes), text


def test_a_lazy_map_reads_no_further_than_it_may(executor: ClusterExecutor) -> None:
    read = itertools.count()
    results = executor.map(calls.double, read, buffersize=100)
    assert list(itertools.islice(results, 1000)) == [*range(0, 2000, 2)]
    assert next(read) <= 1101
    results.close()  # type: ignore[attr-defined]  # a generator's


def test_neighbours_of_a_long_call_come_back_before_it(
    executor: ClusterExecutor, marks: Marks
) -> None:
    names = ["wait", *map(str, range(60))]
    futures = [executor.submit(wait_or_not, marks, name) for name in names]
    assert [future.result(30) for future in futures[1:]] == names[1:]
    assert not futures[0].done()
    marks.open()
    assert futures[0].result(30) == "wait"


@pytest.mark.parametrize("count", [100_000, 5_000_000])
def test_large_arguments_and_results(executor: ClusterExecutor, count: int) -> None:
    assert executor.submit(calls.size, b"x" * count).result(60) == count
    assert executor.submit(calls.bytes_of, count).result(60) == b"x" * count


def test_a_timeout_stops_a_call(executor: ClusterExecutor) -> None:
    with pytest.raises(CallTimeout):
        executor.options(timeout=0.2).submit(calls.nap, 60).result(30)


def test_retries_run_a_failed_call_again(executor: ClusterExecutor, marks: Marks) -> None:
    stubborn = executor.options(retries=2, backoff=0)
    assert isinstance(stubborn.submit(fail_marked, marks, "again").exception(30), ValueError)
    assert marks.starts == {"again": 3}


def fail_marked(marks: Marks, name: str) -> None:
    raise ValueError(marks.start(name))


def test_limits_hold_for_all_nodes_together(executor: ClusterExecutor, marks: Marks) -> None:
    polite = executor.options(key=one_key, per_key=3)
    futures = [polite.submit(marks.wait, number) for number in range(9)]
    marks.wait_for(3)
    assert executor.submit(calls.double, 1).result(30) == 2
    assert len(marks.starts) == 3
    marks.open()
    assert [future.result(30) for future in futures] == [*range(9)]


def one_key(*_: object) -> str:
    return "all"


def test_a_pending_call_is_cancelled_and_never_runs(dask: Dask, marks: Marks) -> None:
    with ClusterExecutor(dask.address, workers_per_node=1, concurrency=1) as executor:
        running = [executor.submit(marks.wait, f"running {number}") for number in range(2)]
        marks.wait_for(2)
        pending = [executor.submit(marks.wait, f"pending {number}") for number in range(20)]
        assert all(future.cancel() for future in pending)
        # Workers answer when they have heard of that.
        wait_until(lambda: not any(each["no_answer"] for each in executor._engine.stacks()))
        marks.open()
        assert [future.result(30) for future in running] == ["running 0", "running 1"]
    assert sorted(marks.starts) == ["running 0", "running 1"]


def test_a_running_call_is_cancelled_where_it_waits(
    executor: ClusterExecutor, marks: Marks
) -> None:
    future = executor.submit(marks.wait, "call")
    marks.wait_for(1)
    wait_until(future.running)
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    wait_until(lambda: not executor.stats().running, "the slot is free")
    assert executor.submit(calls.double, 1).result(30) == 2


def test_coroutines_run_in_the_async_lane(executor: ClusterExecutor) -> None:
    assert list(executor.map(calls.later, range(20))) == [*range(1, 21)]


def test_the_thread_lane(executor: ClusterExecutor) -> None:
    assert list(executor.options(lane="thread").map(calls.double, range(20))) == [*range(0, 40, 2)]


def test_a_generator_streams_its_items(executor: ClusterExecutor) -> None:
    assert list(executor.stream(calls.count_to, 300)) == [*range(300)]


def test_a_stream_that_is_left_ends_its_generator(executor: ClusterExecutor) -> None:
    items = executor.options(stream_buffersize=5).stream(calls.count_to, 1_000_000)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    wait_until(lambda: not executor.stats().running, "the generator is closed")


def test_initializer_and_state_are_each_worker_s_own(dask: Dask) -> None:
    with ClusterExecutor(
        dask.address, initializer=calls.set_up, initargs=("told",), worker_state=calls.Counted
    ) as executor:
        assert set(executor.map(calls.setting, range(20))) == {"told"}
        counted = [executor.submit(calls.count) for _ in range(20)]
        assert len({future.result(30) for future in counted}) == 20


def test_what_fails_in_the_initializer_is_said(dask: Dask) -> None:
    with ClusterExecutor(dask.address, initializer=calls.fail, initargs=(1,)) as executor:
        error = executor.submit(calls.double, 1).exception(30)
        assert "1 is bad" in "".join(traceback.format_exception(error))  # type: ignore[arg-type]


def test_stats_count_calls_and_name_nodes(dask: Dask, connect: Connect) -> None:
    executor = connect(dask)
    list(executor.map(calls.nap_where, [0.05] * 200))
    assert executor.stats().finished == 200
    names = {node.name for node in dask.nodes}
    wait_until(
        lambda: {worker.node for worker in executor.stats().workers} == names, "both have workers"
    )


def test_shutdown_finishes_what_there_is(dask: Dask) -> None:
    executor = ClusterExecutor(dask.address)
    futures = [executor.submit(calls.nap, 0.2) for _ in range(20)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [0.2] * 20
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(calls.double, 1)


def test_workers_end_with_their_executor(dask: Dask, make_dask: object) -> None:
    with ClusterExecutor(dask.address) as executor:
        list(executor.map(calls.nap_where, [0.05] * 20))
        own = {worker.pid for worker in executor.stats().workers if worker.pid}
        own |= {psutil.Process(pid).ppid() for pid in own}  # their fork servers
        assert len(own) >= 2
    wait_until(
        lambda: not {each.pid for node in dask.nodes for each in node.workers()} & own,
        "what the executor had is gone",
    )


def test_progress_is_told(executor: ClusterExecutor) -> None:
    told: list[int] = []
    list(executor.map(calls.double, range(50), progress=lambda now: told.append(now.done)))
    assert told[-1] == 50


def test_logs_of_workers_arrive(
    executor: ClusterExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.submit(log, "from a node").result(30)
    wait_until(lambda: "from a node" in caplog.text, "the record arrives")


def log(text: str) -> None:
    import logging

    logging.getLogger("tests.cluster").warning(text)
