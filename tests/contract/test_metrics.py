"""Prometheus metrics, as a scrape sees them."""

from __future__ import annotations

import gc
import os
import signal
import time
import urllib.request
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

import hybridexec
from hybridexec import HybridExecutor, WorkerLost, metrics

from .conftest import Make
from .helpers import Gate, run_script, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scraped:
    """What one scrape has told."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self._samples: Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }

    def get(self, name: str, executor: str = "1", **labels: str) -> float:
        labels = {"executor": executor, **labels}
        return self._samples[f"hybridexec_{name}", tuple(sorted(labels.items()))]

    def labels(self, name: str, label: str) -> list[str]:
        return sorted(
            dict(labels)[label] for what, labels in self._samples if what == f"hybridexec_{name}"
        )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def scrape(registry: CollectorRegistry) -> Scraped:
    return Scraped(generate_latest(registry).decode())


@pytest.fixture
def address(registry: CollectorRegistry) -> Iterator[str]:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.this_machine("on a cluster, workers have a label more: their node")
def test_a_scrape_tells_how_calls_have_ended(
    make: Make, gate: Gate, registry: CollectorRegistry, address: str, tmp_path: Path
) -> None:
    executor = make(max_workers=1, concurrency=20)
    hybridexec.metrics.prometheus(executor, registry)
    assert list(executor.map(square, range(100))) == [n * n for n in range(100)]
    assert executor.submit(square, "x").exception(timeout=30)
    trying = executor.options(retries=1, backoff=0.0)
    assert trying.submit(fail_at_first, str(tmp_path / "tries")).result(timeout=30) == 1
    assert executor.options(timeout=0.05).submit(gate.wait, "late").exception(timeout=30)
    unwanted = executor.submit(gate.wait, "unwanted")
    gate.wait_for(2)
    assert unwanted.cancel()
    doomed = [executor.submit(gate.wait, number) for number in range(25)]
    gate.wait_for(22)

    def told() -> Scraped:
        with urllib.request.urlopen(address) as answer:
            return Scraped(answer.read().decode())

    def settled() -> Scraped | None:
        found = told()
        counts = [found.get(name) for name in ("calls_running", "calls_pending")]
        return (
            found
            if [found.get("calls_total", outcome="cancelled"), *counts] == [1, 20, 5]
            else None
        )

    before = wait_until(settled)
    (worker,) = executor.stats().workers
    os.kill(worker.pid or 0, signal.SIGKILL)
    assert isinstance(doomed[0].exception(timeout=30), WorkerLost)
    gate.open()
    assert [each.result(timeout=30) for each in doomed[20:]] == [20, 21, 22, 23, 24]
    after = told()
    outcomes = {name: after.get("calls_total", outcome=name) for name in metrics.OUTCOMES}
    assert outcomes == {
        "finished": 100 + 1 + 5,
        "failed": 1,
        "timed_out": 1,
        "cancelled": 1,
        "lost": 20,
    }
    assert after.get("calls_submitted_total") == sum(outcomes.values())
    assert after.get("calls_retried_total") == 1
    assert (after.get("calls_running"), after.get("calls_pending")) == (0, 0)
    assert after.get("worker_restarts_total", cause="SIGKILL") == 1
    assert after.get("worker_restarts_total", cause="exit") == 0
    assert after.get("sent_bytes_total") > before.get("sent_bytes_total") > 0
    assert after.get("received_bytes_total") > before.get("received_bytes_total") > 0
    assert after.get("workers") == 1
    assert after.labels("worker_rss_bytes", "worker") == ["0"], "a place, not a process"


def test_durations_are_histograms(make: Make, registry: CollectorRegistry) -> None:
    executor = make(max_workers=1, concurrency=2)
    metrics.prometheus(executor, registry, name="naps")
    began = time.monotonic()
    list(executor.map(time.sleep, [0.06] * 4 + [0.3] * 2))
    elapsed = time.monotonic() - began

    def measured() -> Scraped | None:
        found = scrape(registry)
        return found if found.get("call_run_seconds_count", "naps") == 6 else None

    found = wait_until(measured)
    for what in ("call_run_seconds", "call_wait_seconds"):
        buckets = [found.get(f"{what}_bucket", "naps", le=str(bound)) for bound in metrics.BOUNDS]
        assert buckets == sorted(buckets)
        assert found.get(f"{what}_bucket", "naps", le="+Inf") == 6
    assert found.get("call_run_seconds_bucket", "naps", le="0.05") == 0
    assert found.get("call_run_seconds_bucket", "naps", le="0.25") <= 4  # any may take longer
    assert 0.83 <= found.get("call_run_seconds_sum", "naps") <= 2 * elapsed  # two at once
    kinds = {family.name: family.type for family in found.families}
    assert kinds["hybridexec_call_run_seconds"] == "histogram"
    assert kinds["hybridexec_calls"] == "counter"
    assert kinds["hybridexec_calls_running"] == "gauge"


def test_the_documented_names_are_those_of_a_scrape(
    make: Make, registry: CollectorRegistry
) -> None:
    executor = make()
    metrics.prometheus(executor, registry)
    executor.submit(square, 2).result(timeout=30)
    kinds = {"counter": "_total", "gauge": "", "histogram": ""}
    told = {family.name + kinds[family.type]: family.type for family in scrape(registry).families}
    lines = [line.split() for line in (metrics.__doc__ or "").splitlines()]
    documented = {
        line[0].strip("`"): line[1] for line in lines if line and line[0].startswith("``hybridexec")
    }
    assert told == documented


def test_counters_never_fall_while_workers_come_and_go(
    make: Make, registry: CollectorRegistry
) -> None:
    executor = make(max_workers=2, max_tasks_per_child=3)
    metrics.prometheus(executor, registry)
    futures = [executor.submit(time.sleep, 0.001) for _ in range(60)]
    names = ("call_run_seconds_count", "call_run_seconds_sum", "worker_cpu_seconds_total")
    last = (0.0, 0.0, 0.0)
    done = False
    while not done:
        done = all(future.done() for future in futures)
        found = scrape(registry)
        now = tuple(found.get(name) for name in names)
        assert all(map(float.__ge__, now, last)), (last, now)
        last = now  # type: ignore[assignment]
        assert len(found.labels("worker_rss_bytes", "worker")) < 15  # of twenty
    wait_until(lambda: scrape(registry).get("worker_restarts_total", cause="max_tasks_per_child"))
    wait_until(lambda: scrape(registry).get("call_run_seconds_count") == 60)


def test_several_executors_share_a_registry(make: Make, registry: CollectorRegistry) -> None:
    first, second, third = make(), make(), make()
    metrics.prometheus(first, registry)
    metrics.prometheus(second.options(retries=1), registry, name="second")
    handle = metrics.prometheus(third, registry)
    assert handle.name == "2"
    with pytest.raises(ValueError, match="this executor is in this registry already, as '1'"):
        metrics.prometheus(first, registry, name="other")
    with pytest.raises(ValueError, match="another executor in this registry is called '1'"):
        metrics.prometheus(make(), registry, name="1")
    list(second.map(square, range(7)))
    found = scrape(registry)
    assert [found.get("calls_submitted_total", name) for name in ("1", "second", "2")] == [0, 7, 0]
    handle.close()
    handle.close()
    assert scrape(registry).labels("calls_submitted_total", "executor") == ["1", "second"]


def test_what_was_counted_stays_until_it_is_closed(registry: CollectorRegistry) -> None:
    with HybridExecutor(1) as executor:
        handle = metrics.prometheus(executor, registry)
        list(executor.map(square, range(9)))
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None, "nothing keeps an executor alive"
    assert scrape(registry).get("calls_total", outcome="finished") == 9
    assert scrape(registry).get("workers") == 0
    handle.close()
    assert not scrape(registry).families
    # In another, or later, the names are free.
    with HybridExecutor(1) as executor:
        metrics.prometheus(executor, registry)
        metrics.prometheus(executor, CollectorRegistry())
    with HybridExecutor(1) as executor:
        assert metrics.prometheus(executor, registry).name == "1"
        list(executor.map(square, range(4)))
        assert scrape(registry).get("calls_total", outcome="finished") == 4


def test_an_executor_that_is_forgotten_ends(registry: CollectorRegistry) -> None:
    executor = HybridExecutor(1)
    metrics.prometheus(executor, registry)
    executor.submit(square, 2).result(timeout=30)
    del executor
    wait_until(lambda: scrape(registry).get("workers") == 0)


def test_a_fork_tells_nothing(make: Make, registry: CollectorRegistry) -> None:
    executor = make(max_workers=1)
    metrics.prometheus(executor, registry)
    executor.submit(square, 2).result(timeout=30)
    child = os.fork()
    if not child:
        found = scrape(registry).labels("calls_submitted_total", "executor")
        os._exit(len(found))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_who_lacks_the_library_is_told(tmp_path: Path) -> None:
    text = """
import sys
sys.modules["prometheus_client"] = None
import hybridexec
if __name__ == "__main__":
    with hybridexec.HybridExecutor(1) as executor:
        try:
            hybridexec.metrics.prometheus(executor)
        except ImportError as error:
            print(error)
"""
    out = run_script(tmp_path / "script.py", text).stdout
    assert "pip install 'hybridexec[prometheus]'" in out


def test_the_default_registry(tmp_path: Path) -> None:
    text = """
from hybridexec import HybridExecutor, metrics
from prometheus_client import generate_latest
if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        metrics.prometheus(executor)
        list(executor.map(abs, range(5)))
        print(generate_latest().decode())
"""
    out = run_script(tmp_path / "script.py", text).stdout
    assert 'hybridexec_calls_total{executor="1",outcome="finished"} 5.0' in out


def fail_at_first(folder: str) -> int:
    if not os.path.exists(folder):
        os.mkdir(folder)
        raise OSError("not yet")
    return 1
