"""Nodes are another level wherever an executor is watched."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console

import hybridexec
from hybridexec import NodeLost, WorkerLost, events
from hybridexec.watching import plain
from hybridexec.watching.view import view

from . import calls
from .calls import Marks
from .conftest import Connect, MakeDask
from .dasks import Dask
from .processes import wait_until


def names(dask: Dask) -> list[str]:
    return sorted(node.name for node in dask.nodes)


def test_stats_sum_up_each_node(dask: Dask, connect: Connect, marks: Marks) -> None:
    executor = connect(dask, workers_per_node=2, concurrency=3)
    futures = [executor.submit(marks.wait, number) for number in range(14)]
    marks.wait_for(12)
    stats = wait_until(lambda: (s := executor.stats()).running == 12 and s, "all slots are in use")
    assert sorted(node.name for node in stats.nodes) == names(dask)
    for node in stats.nodes:
        assert (node.workers, node.places, node.running, node.leaving) == (2, 2, 6, False)
        assert node.address.startswith("tcp://")
        assert node.rss == sum(each.rss for each in stats.workers if each.node == node.name) > 0
    marks.open()
    assert [future.result(30) for future in futures] == [*range(14)]
    executor.submit(calls.fail, 1).exception(30)
    stats = executor.stats()
    assert sum(node.done for node in stats.nodes) == 15
    assert sum(node.failed for node in stats.nodes) == 1
    told = json.loads(json.dumps(stats.as_dict()))
    assert sorted(node["name"] for node in told["nodes"]) == names(dask)
    wait_until(lambda: all(n.round_trip for n in executor.stats().nodes), "pings are answered")


def test_what_workers_did_that_are_gone_counts_for_their_nodes(
    dask: Dask, connect: Connect
) -> None:
    executor = connect(dask, workers_per_node=1, max_tasks_per_child=5)
    assert list(executor.map(calls.double, range(50))) == [*range(0, 100, 2)]
    stats = wait_until(
        lambda: (s := executor.stats()).restarts >= 8 and s, "most workers were replaced"
    )
    wait_until(lambda: sum(node.done for node in executor.stats().nodes) == 50, "all count")
    assert all(restart.node in names(dask) for restart in stats.last_restarts)


def test_events_name_nodes(dask: Dask, connect: Connect) -> None:
    executor = connect(dask)
    told: list[events.Event] = []
    observation = executor.observe(told.append)
    (outcome,) = executor.outcomes(calls.double, [21])
    joined = wait_until(
        lambda: [e for e in told if isinstance(e, events.NodeJoined)][1:], "both have joined"
    )
    assert joined[0].address.startswith("tcp://")
    error = executor.submit(calls.leave, 3).exception(30)
    assert isinstance(error, WorkerLost)
    ended = wait_until(lambda: [e for e in told if isinstance(e, events.WorkerEnded)], "it ended")
    observation.close()
    assert error.node == ended[0].node
    assert f"on node {error.node} died" in str(error)
    started = [e for e in told if isinstance(e, events.WorkerStarted)]
    assert {event.node for event in started} <= set(names(dask))
    (finished,) = (e for e in told if isinstance(e, events.CallsFinished))
    assert (finished.pid, finished.node) == (outcome.worker, outcome.node)
    assert outcome.node in names(dask)


def test_what_is_shown_names_nodes(dask: Dask, connect: Connect, tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    executor = connect(dask)
    assert list(executor.map(calls.nap, [0.05] * 20)) == [0.05] * 20
    wait_until(
        lambda: sorted(each.node for each in executor.stats().workers) == names(dask),
        "both have workers",
    )
    text = plain.text(view(executor._assembly.watched))
    screen = io.StringIO()
    with executor.live(console=Console(file=screen, force_terminal=True, width=140)):
        pass
    executor.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for name in names(dask):
        assert f"{name}: 1 worker" in text
        assert f"{name}: 1 worker" in screen.getvalue()
        assert name in page
    assert "round trip (ms)" in page


def test_metrics_have_a_label_for_nodes(dask: Dask, connect: Connect) -> None:
    pytest.importorskip("prometheus_client")
    from prometheus_client import CollectorRegistry, generate_latest

    from hybridexec import HybridExecutor, metrics

    registry = CollectorRegistry()
    executor = connect(dask)
    metrics.prometheus(executor, registry, name="far")
    assert list(executor.map(calls.nap, [0.1] * 200)) == [0.1] * 200
    wait_until(
        lambda: sorted(each.node for each in executor.stats().workers) == names(dask),
        "both have workers",
    )
    with HybridExecutor(1) as near:
        metrics.prometheus(near, registry, name="near")
        near.submit(pow, 2, 2).result(30)
        text = generate_latest(registry).decode()
    for name in names(dask):
        assert f'hybridexec_workers{{executor="far",node="{name}"}} 1.0' in text
        assert f'node="{name}",worker="' in text
    assert 'hybridexec_workers{executor="near",node=""} 1.0' in text


def test_top_shows_nodes(
    dask: Dask, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    executor = connect(dask, monitor=True)
    assert executor.submit(calls.double, 1).result(30) == 2
    (worker,) = {each.node for each in executor.stats().workers if each.state == "ready"} or {""}
    done = subprocess.run(
        [sys.executable, "-m", "hybridexec", "top", "--once"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"{worker}: 1 worker" in done.stdout
    stacks = subprocess.run(
        [sys.executable, "-m", "hybridexec", "stacks"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"on node {worker}" in stacks.stdout, stacks.stderr


@pytest.mark.slow
def test_a_lost_node_is_told_of(
    make_dask: MakeDask, connect: Connect, marks: Marks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hybridexec")
    dask = make_dask(2)
    executor = connect(dask, concurrency=1)
    told: list[events.Event] = []
    executor.observe(told.append, events=[events.NodeEvent, events.CallsLost])
    futures = [executor.submit(marks.wait, number) for number in range(2)]
    marks.wait_for(2)
    going, staying = dask.nodes
    going.kill()
    (lost,) = wait_until(lambda: [e for e in told if isinstance(e, events.NodeLeft)], "it is lost")
    assert (lost.node, lost.lost) == (going.name, True)
    wait_until(lambda: f"node {going.name} was lost: {lost.why}" in caplog.text, "it is logged")
    marks.open()
    errors = [future.exception(30) for future in futures]
    (error,) = (each for each in errors if each is not None)
    assert isinstance(error, NodeLost)
    assert error.node == going.name
    (ended,) = wait_until(lambda: [e for e in told if isinstance(e, events.CallsLost)], "told")
    assert (ended.node, ended.error) == (going.name, "NodeLost")
    assert [node.name for node in executor.stats().nodes] == [staying.name]


@pytest.mark.slow
def test_a_node_that_retires_leaves_without_a_warning(
    make_dask: MakeDask, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    from distributed import Client

    caplog.set_level(logging.INFO, "hybridexec")
    dask = make_dask(2)
    executor = connect(dask)
    told: list[events.NodeLeft] = []
    executor.observe(told.append, events=events.NodeLeft)  # type: ignore[arg-type]  # only these
    assert executor.submit(calls.double, 1).result(30) == 2
    going = dask.nodes[0]
    with Client(dask.address, set_as_default=False) as client:
        client.retire_workers(names=[going.name], close_workers=True)
    (left,) = wait_until(lambda: told, "it has left")
    assert (left.node, left.lost) == (going.name, False)
    record = wait_until(
        lambda: [r for r in caplog.records if "has left" in r.getMessage()], "the log tells"
    )[0]
    assert record.levelno == logging.INFO


def test_without_nodes_nothing_is_said_of_them() -> None:
    from hybridexec import HybridExecutor

    with HybridExecutor(1) as executor:
        (outcome,) = executor.outcomes(abs, [-1])
        stats = executor.stats()
        text = plain.text(view(executor._assembly.watched))
    assert (outcome.node, stats.nodes, stats.workers[0].node) == ("", (), "")
    assert "node" not in text


def test_log_records_name_the_node(
    dask: Dask, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hybridexec.test")
    executor = connect(dask)
    (outcome,) = executor.outcomes(log, ["from afar"])
    record = wait_until(
        lambda: [r for r in caplog.records if r.getMessage() == "from afar"], "it arrives"
    )[0]
    assert (record.process, record.node) == (outcome.worker, outcome.node)
    assert outcome.node in names(dask)


def log(text: str) -> None:
    logging.getLogger("hybridexec.test").info("%s", text)


def test_all_that_makes_calls_works_on_a_cluster(dask: Dask, connect: Connect) -> None:
    executor = connect(dask)
    frontier = hybridexec.Frontier([1])
    found = []
    for number in executor.map_unordered(calls.double, frontier):
        found.append(number)
        if number < 16:
            frontier.add(number)
    assert found == [2, 4, 8, 16]
    assert list(executor.stream(calls.count_to, 3)) == [0, 1, 2]
    (future,) = hybridexec.as_completed([executor.submit(calls.double, 2)])
    assert future.result() == 4
    counts: list[hybridexec.Progress] = []
    assert list(executor.map(calls.double, range(5), progress=counts.append)) == [0, 2, 4, 6, 8]
    assert counts[-1].done == 5

    async def ask() -> tuple[int, list[int]]:
        one = await executor.asubmit(calls.double, 21)
        return one, [each async for each in executor.amap(calls.double, range(3))]

    assert asyncio.run(ask()) == (42, [0, 2, 4])
    page = pytest.importorskip("bokeh") and executor.dashboard()
    with urllib.request.urlopen(page.url) as answer:
        assert answer.status == 200
    page.close()
