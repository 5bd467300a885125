"""Callbacks that take long, on the thread on which results arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import PATIENCE, Gate, square, wait_until

pytestmark = pytest.mark.every_lane


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if "the callback" in text]


def sleep_for_long(_: Future[Any]) -> None:
    time.sleep(0.7)


@pytest.mark.slow
def test_a_callback_that_sleeps_is_told_of_once(
    make: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make()
    futures = [executor.submit(gate.wait, n) for n in range(2)]
    for future in futures:
        future.add_done_callback(sleep_for_long)
    gate.open()
    wait(futures, timeout=30)
    assert executor.submit(square, 3).result(timeout=30) == 9
    (text,) = wait_until(lambda: told(caplog))
    assert f"{__name__}.sleep_for_long ({__file__}:" in text


def get(executor: HybridExecutor) -> None:
    executor.submit(square, 3).result(timeout=1.5)


def iterate(executor: HybridExecutor) -> None:
    list(executor.map(square, range(3), timeout=1.5))


@pytest.mark.slow
@pytest.mark.parametrize("wait_for_result", [get, iterate])
def test_it_is_told_of_while_it_sleeps_if_somebody_waits(
    make: Make,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    wait_for_result: Callable[[HybridExecutor], None],
) -> None:
    executor = make()
    began, go_on = threading.Event(), threading.Event()

    def wait_to_go_on(_: Future[Any]) -> None:
        began.set()
        go_on.wait(PATIENCE)

    executor.submit(gate.wait, 1).add_done_callback(wait_to_go_on)
    gate.open()
    assert began.wait(PATIENCE)
    try:
        with pytest.raises(TimeoutError):
            wait_for_result(executor)
        (text,) = told(caplog)
    finally:
        go_on.set()
    assert "wait_to_go_on" in text


@pytest.mark.every_lane(but=("thread",))  # where nothing stops a sleep
def test_one_that_the_canceller_runs_keeps_nobody_waiting(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make()
    future = executor.submit(time.sleep, 60)
    future.add_done_callback(sleep_for_long)
    future.cancel()
    assert executor.submit(square, 3).result(timeout=30) == 9
    assert not told(caplog)
