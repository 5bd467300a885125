"""Other ways to hear of signals: pause, descriptors, and masks that the worker needs itself."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
import time
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import Gate, pid_of, square

pytestmark = pytest.mark.slow_on("spawn", "fork")


# -- pause -----------------------------------------------------------------------------------------


def pauses(seconds: float) -> list[int]:
    heard: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)  # again: one may come before the pause
    signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return heard[:1]


@pytest.mark.slow
def test_each_call_pauses_until_its_handler_has_run(make: Make) -> None:
    executor = make(max_workers=1)
    pausing = [executor.submit(pauses, seconds) for seconds in (0.3, 0.1, 0.2)]
    assert executor.submit(square, 3).result(timeout=30) == 9
    assert [call.result(timeout=30) for call in pausing] == [[signal.SIGALRM]] * 3
    late = executor.options(timeout=0.1).submit(signal.pause)
    assert "CallTimeout" in repr(late.exception(timeout=30))


# -- descriptors that tell of signals --------------------------------------------------------------


def hear_in_loop(seconds: float) -> list[Any]:
    """A loop of asyncio's hears of signals by a descriptor that is told."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[int] = loop.create_future()
        loop.add_signal_handler(signal.SIGALRM, heard.set_result, signal.SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return await heard
        finally:
            loop.remove_signal_handler(signal.SIGALRM)

    return [asyncio.run(main()), signal.set_wakeup_fd(-1)]


@pytest.mark.slow
def test_each_loop_hears_of_its_own_signals(make: Make) -> None:
    executor = make(max_workers=1)
    calls = [executor.submit(hear_in_loop, seconds) for seconds in (0.3, 0.1, 0.2)]
    assert [call.result(timeout=30) for call in calls] == [[signal.SIGALRM, -1]] * 3


def wakeups() -> list[Any]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    seen: list[Any] = [signal.set_wakeup_fd(writer, warn_on_full_buffer=False) == -1]
    os.kill(os.getpid(), signal.SIGUSR1)
    seen.append(list(os.read(reader, 10)))
    seen.append(signal.set_wakeup_fd(-1) == writer)
    signal.signal(signal.SIGUSR1, before)
    os.set_blocking(writer, True)
    for fd, kind in ((writer, ValueError), (10_000, OSError), ("x", TypeError)):
        with pytest.raises(kind):
            signal.set_wakeup_fd(fd)  # type: ignore[arg-type]
    os.close(reader)
    os.close(writer)
    return seen


def test_a_descriptor_is_written_to(executor: HybridExecutor) -> None:
    calls = [executor.submit(wakeups) for _ in range(10)]
    expected = [True, [signal.SIGUSR1], True]
    assert [call.result(timeout=30) for call in calls] == [expected] * 10


# -- the mask is the worker's, and what that needs itself is not blocked ---------------------------


def burn_long() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pass


def block_all() -> list[bool]:
    everything = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    now = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGURG})
    after = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return [
        signal.SIGURG in before,
        signal.SIGURG in now,
        signal.SIGURG in after,
        signal.SIGUSR1 in after,
        signal.SIGURG in signal.pthread_sigmask(signal.SIG_SETMASK, everything),
    ]


@pytest.mark.slow
def test_a_call_that_blocks_all_signals_can_be_interrupted(make: Make) -> None:
    executor = make(max_workers=1, timeout_grace=30)
    pid = executor.submit(pid_of).result(timeout=30)
    assert executor.submit(block_all).result(timeout=30) == [False, True, False, True, False]
    late = executor.options(timeout=0.2).submit(burn_long)
    assert "CallTimeout" in repr(late.exception(timeout=60))
    assert executor.submit(pid_of).result(timeout=30) == pid


def cpu_clocks() -> bool:
    clocks = [
        time.pthread_getcpuclockid(thread or 0)
        for thread in (threading.get_ident(), threading.main_thread().ident)
    ]
    return all(time.clock_gettime(clock) > 0 for clock in clocks)


def test_functions_that_want_a_thread_s_id_know_that_of_a_greenlet(
    executor: HybridExecutor,
) -> None:
    assert executor.submit(cpu_clocks).result(timeout=30)


def imported(wait: Any, gate: Gate) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    gate.arrive("imported")
    return int(wait({signal.SIGUSR1}))


def test_it_may_have_been_imported_by_name(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1)
    call = executor.submit(functools.partial(imported, signal.sigwait), gate)
    gate.wait_for(1)
    pid = executor.submit(pid_of).result(timeout=30)
    os.kill(pid, signal.SIGUSR1)
    assert call.result(timeout=30) == signal.SIGUSR1
