"""An engine runs calls over any link: shown with one that is a TCP connection, without a page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any

import pytest

from hybridexec.errors import WorkerLost
from hybridexec.options import CallOptions
from hybridexec.parent.client.submission import Submission
from hybridexec.parent.engine.engine import Engine
from hybridexec.parent.engine.link import Launcher
from hybridexec.parent.pool.pool import Pool
from hybridexec.parent.pool.watchdog import Watchdog
from hybridexec.parent.pool.worker import MIN_WINDOW

from .remote import FarEnd, RemoteLauncher

SLOTS = 2
#: How many calls a far end is sent before it has answered any.
MOST = SLOTS + MIN_WINDOW

_gate = threading.Event()


def at_gate(value: int) -> int:
    assert _gate.wait(30)
    return value


class Remote:
    """An engine with one worker at a time, at the other end of a TCP connection."""

    def __init__(self) -> None:
        self.remote = RemoteLauncher()
        launcher: Launcher = self.remote
        self.pool = Pool(1, {"greenlet": SLOTS})
        self.engine = Engine(self.pool, launcher, Watchdog(0.01))
        self._submission = Submission(self.engine, None, 2048)

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        return self._submission.submit(CallOptions(**options), function, arguments, {})

    def map(self, function: Callable[..., Any], values: list[Any]) -> list[Any]:
        results = self._submission.map(CallOptions(), function, (values,), False, None, None, None)
        return list(results)

    def busy_far_end(self) -> FarEnd:
        """The only far end, when it runs a call and was sent as many as it can be."""
        _wait_until(lambda: self.remote.far_ends and self.remote.far_ends[0].started)
        _wait_until(lambda: self.pool.workers[1].in_flight.count == MOST)
        (far_end,) = self.remote.far_ends
        return far_end


def _wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it happens"
        time.sleep(0.001)


@pytest.fixture
def remote() -> Iterator[Remote]:
    _gate.clear()
    remote = Remote()
    yield remote
    _gate.set()
    remote.engine.shutdown(True)
    remote.engine.join(30)
    assert remote.engine.ended.is_set()


def test_calls_go_out_and_results_come_back(remote: Remote) -> None:
    futures = [remote.submit(abs, -n) for n in range(100)]
    assert [future.result(30) for future in futures] == list(range(100))
    assert remote.map(abs, [-n for n in range(1000)]) == list(range(1000))
    for n in range(10):  # one at a time, so that callers send and read themselves
        assert remote.submit(abs, -n).result(30) == n
    assert len(remote.remote.far_ends) == 1


def test_more_than_the_connection_holds(remote: Remote) -> None:
    large = bytes(range(256)) * 100_000
    futures = [remote.submit(bytes.upper, large) for _ in range(5)]
    assert [future.result(30) == large.upper() for future in futures] == [True] * 5


def test_a_call_that_was_sent_is_running(remote: Remote) -> None:
    futures = [remote.submit(at_gate, n) for n in range(MOST + 1)]
    remote.busy_far_end()
    assert [future.running() for future in futures] == [True] * MOST + [False]


def test_what_was_sent_is_lost_with_its_link_and_what_was_not_goes_elsewhere(
    remote: Remote,
) -> None:
    futures = [remote.submit(at_gate, n) for n in range(10)]
    first = remote.busy_far_end()
    first.cut()
    _gate.set()
    for future in futures[:MOST]:
        with pytest.raises(WorkerLost, match="link was cut") as lost:
            future.result(30)
        assert lost.value.in_flight == MOST
    assert [future.result(30) for future in futures[MOST:]] == list(range(MOST, 10))
    started = [call for far_end in remote.remote.far_ends for call in far_end.started]
    assert len(first.started) == 1
    assert len(started) == len(set(started)) == 1 + 10 - MOST


def test_what_was_sent_runs_again_if_it_may(remote: Remote) -> None:
    futures = [remote.submit(at_gate, n, on_worker_loss="retry") for n in range(10)]
    remote.busy_far_end().cut()
    _gate.set()
    assert [future.result(30) for future in futures] == list(range(10))


def test_a_cut_while_nothing_is_under_way(remote: Remote) -> None:
    assert remote.submit(abs, -1).result(30) == 1
    remote.remote.far_ends[0].cut()
    _wait_until(lambda: 1 not in remote.pool.workers)
    assert remote.submit(abs, -2).result(30) == 2


def test_kill_cuts_the_link_and_every_future_ends(remote: Remote) -> None:
    futures = [remote.submit(at_gate, n) for n in range(10)]
    remote.busy_far_end()
    remote.engine.shutdown(False)
    remote.engine.kill(15)
    assert not wait(futures, 30).not_done
    assert [future.cancelled() for future in futures] == [False] * MOST + [True] * (10 - MOST)
