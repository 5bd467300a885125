"""Calls that nobody waits for and that go on: deadlines hold for them, and they are told of."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make
from .helpers import PATIENCE, Gate, identity, pid_of, pids, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

TIMEOUT = 1.5  # calls are cancelled before that
GRACE = 0.2


def go_on(gate: Gate, name: object = "on") -> object:
    """Wait until the gate is open, whatever is raised meanwhile; tell of that."""
    return _go_on(gate, name, time.monotonic() + 4 * PATIENCE, [], depth=3)


def _go_on(
    gate: Gate, name: object, deadline: float, raised: list[BaseException], depth: int
) -> object:
    """As deep as that, because what is raised between two rounds gets out of this one."""
    while time.monotonic() < deadline:
        try:
            if depth:
                return _go_on(gate, name, deadline, raised, depth - 1)
            for error in raised:
                gate.arrive(f"{name}-{type(error).__name__}")
            gate.arrive(name)  # from then on, anything may be raised anywhere
            while not gate.is_open() and time.monotonic() < deadline:
                time.sleep(0.01)
            return name
        except BaseException as error:
            raised.append(error)
    raise AssertionError("the gate opens")


def go_on_at(at: tuple[Gate, object]) -> object:
    return go_on(*at)


def go_on_in(folder: str) -> None:
    go_on(Gate(Path(folder)))


def go_on_or_return(at: tuple[Gate, object] | None) -> object:
    return None if at is None else go_on(*at)


def one_future(executor: HybridExecutor, gate: Gate) -> object:
    future = executor.submit(go_on, gate)
    gate.wait_for(1)
    assert future.cancel()
    return future


def all_calls(executor: HybridExecutor, gate: Gate) -> object:
    future = executor.submit(go_on, gate)
    gate.wait_for(1)
    executor.cancel_all()
    return future


def closed_stream(executor: HybridExecutor, gate: Gate) -> object:
    results = executor.map(go_on_at, [(gate, "on")])
    gate.wait_for(1)
    results.close()  # type: ignore[attr-defined]
    return results


def left_loop(executor: HybridExecutor, gate: Gate) -> object:
    for done in executor.map_unordered(go_on_or_return, [None, (gate, "on")], buffersize=2):
        assert done is None
        gate.wait_for(1)
        break
    return None


ABANDON = [one_future, all_calls, closed_stream, left_loop]


@pytest.mark.parametrize("abandon", ABANDON)
def test_a_deadline_holds_whoever_has_stopped_waiting(
    make: Make, gate: Gate, abandon: Callable[[HybridExecutor, Gate], object]
) -> None:
    executor = make(max_workers=1, timeout_grace=GRACE)
    pid = executor.submit(pid_of).result(timeout=30)
    left = abandon(executor.options(timeout=TIMEOUT), gate)
    wait_until(lambda: pid not in pids(executor))
    assert not gate.is_open()
    assert not isinstance(left, Future) or left.cancelled()
    assert executor.submit(pid_of).result(timeout=30) != pid


def test_a_cancelled_call_gives_its_only_slot_back_in_time(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=1, timeout_grace=GRACE)
    pid = executor.submit(pid_of).result(timeout=30)
    future = executor.options(timeout=TIMEOUT).submit(go_on, gate)
    gate.wait_for(1)
    assert future.cancel()
    following = executor.submit(pid_of)
    assert following.result(timeout=30) != pid
    assert "on-StopCall" in gate.arrived  # it was told first
    assert future.cancelled()


def test_a_cancelled_call_is_not_tried_again(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1, timeout_grace=GRACE)
    pid = executor.submit(pid_of).result(timeout=30)
    view = executor.options(
        timeout=TIMEOUT, retries=3, retry_on=CallTimeout, backoff=0, on_worker_loss="retry"
    )
    future = view.submit(go_on, gate, "once")
    gate.wait_for(1)
    assert future.cancel()
    assert executor.submit(pid_of).result(timeout=30) != pid
    (gate.folder / "at-once").unlink()
    assert executor.submit(identity, 1).result(timeout=30) == 1
    assert "once" not in gate.arrived
    wait_until(lambda: executor.stats().running == 0)


def test_a_cancelled_call_with_a_deadline_does_not_hold_up_shutdown(
    make_each: Make, gate: Gate
) -> None:
    executor = make_each(max_workers=1, timeout_grace=GRACE)
    future = executor.options(timeout=TIMEOUT).submit(go_on, gate)
    gate.wait_for(1)
    assert future.cancel()
    executor.shutdown(cancel_futures=True)
    assert executor.stats().workers == ()
    assert not gate.is_open()


@pytest.mark.slow
def test_a_victim_that_goes_on_does_not_keep_its_slot(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=GRACE)
    hog_gate = Gate(gate.folder.with_name("hog"))
    pid = executor.submit(pid_of).result(timeout=30)
    victim = executor.options(timeout=1.0).submit(go_on, gate)
    gate.wait_for(1)
    hog = executor.submit(hog_gate.hog, "hog")
    with pytest.raises(CallTimeout):
        victim.result(timeout=30)
    hog_gate.open()
    assert hog.result(timeout=30) == "hog"
    wait_until(lambda: pid not in pids(executor))
    assert executor.submit(pid_of).result(timeout=30) != pid
    assert not gate.is_open()


# -- without a timeout ------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "cancelled" in r.getMessage()]


@pytest.mark.parametrize("how", ["cancel", "cancel_all"])
def test_cancelled_calls_that_go_on_are_told_of_once_and_counted(
    make_each: Make, gate: Gate, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    executor = make_each(max_workers=1, concurrency=3, timeout_grace=10 * GRACE)  # one ends in it
    pid = executor.submit(pid_of).result(timeout=30)
    assert executor.stats().abandoned == 0
    futures: list[Future[Any]] = [executor.submit(go_on, gate, n) for n in (1, 2)]
    obedient = executor.submit(gate.wait, "obedient")
    gate.wait_for(3)
    with caplog.at_level(logging.WARNING, "hybridexec"):
        if how == "cancel":
            assert all(future.cancel() for future in [*futures, obedient])
        else:
            executor.cancel_all()
        wait_until(lambda: executor.stats().abandoned == 2)
        wait_until(lambda: " ".join(said(caplog)).count("go_on(") >= 2)
        (worker,) = executor.stats().workers
        assert (worker.pid, worker.abandoned, worker.running) == (pid, 2, 2)
        # One slot is left.
        assert [executor.submit(pid_of).result(timeout=30) for _ in range(3)] == [pid] * 3
    text = " ".join(said(caplog))
    assert f"worker process {pid} " in text
    assert text.count("go_on(") == 2  # once each
    assert "wait" not in text
    gate.open()
    wait_until(lambda: executor.stats().abandoned == 0)
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_calls_that_a_closed_stream_leaves_to_run_on_are_not_told_of(
    make: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make(max_workers=1, timeout_grace=0.01)
    results = executor.map(gate.wait, ["a"])
    gate.wait_for(1)
    results.close()  # type: ignore[attr-defined]
    for _ in range(20):
        time.sleep(0.01)
        assert executor.submit(identity, 1).result(timeout=30) == 1
    assert executor.stats().abandoned == 0
    assert not said(caplog)
    executor.cancel_all()
    wait_until(lambda: executor.stats().running == 0)


def test_a_call_is_told_of_with_its_arguments_where_they_are_plain(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make(max_workers=1, timeout_grace=GRACE)
    gate = Gate(tmp_path / "g")
    future = executor.submit(go_on_in, str(gate.folder))
    gate.wait_for(1)
    with caplog.at_level(logging.WARNING, "hybridexec"):
        assert future.cancel()
        wait_until(lambda: said(caplog))
    gate.open()
    assert "go_on_in('" in said(caplog)[0]
