"""What a worker tells of itself on its status page."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hybridexec.wire.page import StatusPage, create_fd
from hybridexec.worker import vitals
from hybridexec.worker.vitals import BEAT_SECONDS, Vitals


class Clocks:
    def __init__(self) -> None:
        self.now, self.cpu = 1000.0, 5.0

    def pass_by(self, seconds: float, cpu: float = 0.0) -> None:
        self.now += seconds
        self.cpu += cpu


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(vitals.native, "monotonic", lambda: made.now)
    monkeypatch.setattr(vitals.time, "thread_time", lambda: made.cpu)
    return made


@pytest.fixture
def page() -> Iterator[StatusPage]:
    fd = create_fd(2)
    made = StatusPage(fd, 2)
    os.close(fd)
    yield made
    made.close()


def test_calls_that_do_not_wait_count_as_equally_long(page: StatusPage) -> None:
    Vitals(page).ran(100, 0.25, 0.002, last_waited=False)
    assert page.run_seconds.count == page.wait_seconds.count == 100
    assert page.run_seconds.total == pytest.approx(0.002)
    assert page.run_seconds.largest == pytest.approx(0.00002)
    assert page.wait_seconds.largest == 0.25


@pytest.mark.parametrize(("seconds", "last_waited"), [(0.5, False), (0.5, True), (0.001, True)])
def test_a_long_call_is_told_from_those_before_it(
    page: StatusPage, seconds: float, last_waited: bool
) -> None:
    ours = Vitals(page)
    ours.ran(50, 0.0, 0.0005, last_waited=False)
    ours.ran(50, 0.0, seconds, last_waited)
    assert page.run_seconds.count == 100
    median, longest = page.run_seconds.quantiles(0.98, 1.0)
    assert median == pytest.approx(0.00001, rel=1 / 16)
    assert longest == pytest.approx(seconds, rel=1 / 16)


def test_a_hub_that_is_idle_is_not_busy(page: StatusPage, clocks: Clocks) -> None:
    ours = Vitals(page)
    for _ in range(100):
        clocks.pass_by(BEAT_SECONDS, cpu=0.001)
        ours.beat()
    assert page.heartbeat == clocks.now
    assert page.busy == pytest.approx(0.01, abs=0.002)


@pytest.mark.parametrize("cpu", [1.0, 0.0])
def test_a_hub_that_computes_is_busy_and_so_is_one_that_waits_in_c(
    page: StatusPage, clocks: Clocks, cpu: float
) -> None:
    ours = Vitals(page)
    for _ in range(20):
        clocks.pass_by(1.0, cpu)
        ours.beat()
    assert page.busy == pytest.approx(1.0, abs=0.16)
    for _ in range(100):
        clocks.pass_by(BEAT_SECONDS)
        ours.beat()
    assert page.busy < 0.05, "what is long ago does not count"


def test_the_process_is_measured(page: StatusPage) -> None:
    Vitals(page).beat()
    assert page.cpu_seconds > 0
    assert page.resident > 1 << 20


def test_a_child_leaves_the_page_alone(page: StatusPage) -> None:
    ours = Vitals(page)
    ours.let_go()
    ours.ran(1, 1.0, 1.0, last_waited=False)
    ours.beat()
    assert page.heartbeat == 0
    assert page.run_seconds.count == page.wait_seconds.count == 0
