"""What else blocks: sleep, DNS, subprocesses, logging."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import socket
import threading
import time
from pathlib import Path

import loopback_clients
import psutil
import pytest

from hybridexec import HybridExecutor

pytestmark = pytest.mark.slow_on("spawn", "fork")

PATIENCE = 60


def most_at_once(spans: list[tuple[float, float]]) -> int:
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = current = 0
    for _, change in events:
        current += change
        most = max(most, current)
    return most


@pytest.mark.slow
def test_sleeping_calls_sleep_at_once(executor: HybridExecutor) -> None:
    list(executor.map(loopback_clients.sleep_span, [1] * 400, timeout=PATIENCE))  # both are there
    spans = list(executor.map(loopback_clients.sleep_span, [5] * 400, timeout=PATIENCE))
    assert most_at_once(spans) == 400
    assert all(end - start >= 5 for start, end in spans)


def test_look_ups_of_names(executor: HybridExecutor) -> None:
    expected = {address[4][0] for address in socket.getaddrinfo("localhost", 80)}
    found = list(executor.map(loopback_clients.look_up, range(400), timeout=PATIENCE))
    assert len(found) == 400
    for first, addresses in found:
        assert first.startswith("127.")
        assert addresses == expected


def test_a_look_up_that_fails_is_that_calls_error(executor: HybridExecutor) -> None:
    # A label may have 63 characters: no resolver asks anybody about this one.
    failed = executor.submit(loopback_clients.look_up_nobody, "a" * 64 + ".invalid")
    fine = executor.submit(loopback_clients.look_up, 1)
    assert isinstance(failed.exception(PATIENCE), OSError | UnicodeError)
    assert fine.result(PATIENCE)[0].startswith("127.")


def test_subprocesses_run_at_once(executor: HybridExecutor, tmp_path: Path) -> None:
    """Each ends when it has seen all the others."""
    count = 40
    futures = [
        executor.submit(loopback_clients.meet_in_subprocesses, str(tmp_path), number, count)
        for number in range(count)
    ]
    assert [future.result(PATIENCE) for future in futures] == [f"met {n}" for n in range(count)]


def test_subprocesses_have_their_own_exit_codes_and_pipes(executor: HybridExecutor) -> None:
    codes = [number % 256 for number in range(60)]
    found = executor.map(loopback_clients.exit_code_of_subprocess, codes, timeout=PATIENCE)
    assert list(found) == [(code, str(code)) for code in codes]
    assert executor.submit(loopback_clients.large_output, 10_000_000).result(60) == 10_000_000


def test_cancelling_a_call_ends_its_wait_for_a_subprocess(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    mark = tmp_path / "started"
    future = executor.submit(loopback_clients.hang_in_subprocess, str(mark))
    deadline = time.monotonic() + PATIENCE
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pid = int(mark.read_text())
    assert future.cancel()
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_a_workers_first_child_may_end_at_once(method: str) -> None:
    """gevent misses what ends before it listens for the first time."""
    with HybridExecutor(1, multiprocessing.get_context(method)) as executor:
        assert executor.submit(loopback_clients.wait_for_a_short_child).result(PATIENCE) == 7


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_logging_to_a_file(method: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context(method)
    with HybridExecutor(2, context, loopback_clients.log_to, (str(tmp_path),)) as executor:
        pids = list(executor.map(loopback_clients.log_some, range(300), timeout=PATIENCE))
    lines = [
        line.split()
        for pid in set(pids)
        for line in (tmp_path / f"{pid}.log").read_text().splitlines()
    ]
    assert len(lines) == 600
    assert sorted((line[1], line[2]) for line in lines) == sorted(
        (f"client.{number}", when) for number in range(300) for when in ("before", "after")
    )
    assert all(line[0].startswith("HybridWorker-") for line in lines)
    assert all(line[4] == "x" * 200 for line in lines)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_logging_to_the_parent_through_a_queue(method: str) -> None:
    """The recipe of the logging cookbook for several processes."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    listener = logging.handlers.QueueListener(queue, Collect())
    listener.start()
    try:
        with HybridExecutor(2, context, loopback_clients.log_through_queue, (queue,)) as executor:
            pids = list(executor.map(loopback_clients.log_some, range(300), timeout=PATIENCE))
    finally:
        listener.stop()
        queue.close()
        queue.join_thread()
    assert len(records) == 600
    assert {record.process for record in records} == set(pids)
    assert os.getpid() not in pids


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_calls_put_into_a_queue_arrives_though_the_worker_ends(method: str) -> None:
    """A queue's own thread writes it; a worker that did not wait for it would take items along."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    arrived: list[int] = []

    def read() -> None:
        while (item := queue.get()) is not None:
            arrived.append(item)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with HybridExecutor(2, context, loopback_clients.keep_queue, (queue,)) as executor:
        list(executor.map(loopback_clients.put_into_queue, range(2000), timeout=PATIENCE))
    queue.put(None)
    reader.join(PATIENCE)
    assert sorted(arrived) == list(range(2000))
    queue.close()
    queue.join_thread()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_exit_handlers_run_when_workers_end(method: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context(method)
    with HybridExecutor(2, context, loopback_clients.mark_at_exit, (str(tmp_path),)) as executor:
        pids = {executor.submit(os.getpid).result(PATIENCE) for _ in range(20)}
    assert pids <= {int(path.name) for path in tmp_path.iterdir()}
