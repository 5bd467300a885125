"""Calls that wait for signals: they get them, and let the others go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
import pytest

from .conftest import Make
from .helpers import Gate, pid_of, square, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


SIGNALS = {signal.SIGUSR1, signal.SIGUSR2}


Wait = Callable[[set[signal.Signals]], Any]


def by_sigwait(numbers: set[signal.Signals]) -> Any:
    return signal.sigwait(numbers)


def by_sigwaitinfo(numbers: set[signal.Signals]) -> Any:
    info = signal.sigwaitinfo(numbers)
    assert info.si_uid == os.getuid()
    return signal.Signals(info.si_signo)


def by_sigtimedwait(numbers: set[signal.Signals]) -> Any:
    info = signal.sigtimedwait(numbers, 60)
    assert info is not None
    assert info.si_uid == os.getuid()
    return signal.Signals(info.si_signo)


WAITS: list[Wait] = [by_sigwait, by_sigwaitinfo, by_sigtimedwait]


def wait_for(wait: Wait, gate: Gate, name: str) -> Any:
    # It stays so: the mask is that of others that wait, too.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    gate.arrive(name)
    return wait(SIGNALS)


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_from_outside_ends_the_wait_and_others_go_on(
    make_each: Make, gate: Gate, wait: Wait
) -> None:
    executor = make_each(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    for number in sorted(SIGNALS):
        waiting = executor.submit(wait_for, wait, gate, f"waits for {number}")
        wait_until(lambda number=number: f"waits for {number}" in gate.arrived)
        assert executor.submit(square, 3).result(timeout=30) == 9
        assert not waiting.done()
        os.kill(pid, number)
        assert waiting.result(timeout=30) is number
    assert executor.submit(pid_of).result(timeout=30) == pid


def send_to_process(number: int) -> None:
    os.kill(os.getpid(), number)


def send_to_thread(number: int) -> None:
    signal.pthread_kill(threading.get_ident(), number)


def send_to_main_thread(number: int) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)


SENDS: list[Callable[[int], None]] = [
    send_to_process,
    send_to_thread,
    send_to_main_thread,
    signal.raise_signal,
]


def block_send_wait(send: Callable[[int], None]) -> list[Any]:
    """A signal that has come before is waited for no more."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        seen: list[Any] = []
        send(signal.SIGUSR1)
        seen.append(signal.sigpending() & SIGNALS == {signal.SIGUSR1})
        seen.append(signal.sigwait(SIGNALS))
        send(signal.SIGUSR2)
        info = signal.sigwaitinfo(SIGNALS)
        seen += [info.si_signo, info.si_pid == os.getpid()]
        seen += [signal.sigtimedwait(SIGNALS, 0), signal.sigtimedwait(SIGNALS, 0.05)]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return seen


@pytest.mark.parametrize("send", SENDS)
def test_all_ways_to_send_one(make: Make, send: Callable[[int], None]) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    expected = [True, signal.SIGUSR1, signal.SIGUSR2, True, None, None]
    assert executor.submit(block_send_wait, send).result(timeout=30) == expected
    assert executor.submit(pid_of).result(timeout=30) == pid


def in_native_thread() -> list[Any]:
    """Its own mask, and its own wait."""

    def block_and_wait(ids: list[int]) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        ids.append(gevent.monkey.get_original("threading", "get_ident")())
        return signal.sigwait({signal.SIGUSR1})

    ids: list[int] = []
    pool = gevent.get_hub().threadpool
    waiting = pool.spawn(block_and_wait, ids)
    while not ids:
        time.sleep(0.01)
    signal.pthread_kill(ids[0], signal.SIGUSR1)
    main = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return [waiting.get(timeout=30), signal.SIGUSR1 in main]


def test_a_native_thread_waits_by_itself(make: Make) -> None:
    assert make().submit(in_native_thread).result(timeout=30) == [signal.SIGUSR1, False]


def with_handler() -> list[Any]:
    """A handler does not get what is waited for, blocked or not, and gets it after that."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
    seen: list[Any] = [signal.sigwait({signal.SIGUSR1}), heard[:]]
    os.kill(os.getpid(), signal.SIGUSR1)
    while not heard:
        time.sleep(0.01)
    signal.signal(signal.SIGUSR1, before)
    return [*seen, heard]


def test_the_wait_comes_before_a_handler(make: Make) -> None:
    expected = [signal.SIGUSR1, [], [signal.SIGUSR1]]
    assert make(max_workers=1).submit(with_handler).result(timeout=30) == expected


def interrupted(raises: bool) -> Any:
    """Another signal's handler runs meanwhile; what it raises ends the wait."""
    heard: list[int] = []

    def handler(number: int, frame: object) -> None:
        heard.append(number)
        if raises:
            raise KeyError(number)
        os.kill(os.getpid(), signal.SIGUSR1)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return [signal.sigwait({signal.SIGUSR1}), heard]
    except KeyError as error:
        return [error.args[0], heard]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


@pytest.mark.parametrize("raises", [False, True])
def test_another_signal_does_not_end_the_wait_but_what_its_handler_raises(
    make: Make, raises: bool
) -> None:
    number = signal.SIGALRM if raises else signal.SIGUSR1
    found = make(max_workers=1).submit(interrupted, raises).result(timeout=30)
    assert found == [number, [signal.SIGALRM]]


def alarmed(seconds: float, gate: Gate) -> Any:
    """An alarm can be waited for, and is that of the call that has set it."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    gate.arrive(seconds)
    return signal.sigwait({signal.SIGALRM}), seconds


def handled_alarm(seconds: float) -> str:
    heard: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while not heard:
        time.sleep(0.005)
    return f"heard {len(heard)}"


def block_alarm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})


def test_each_call_waits_for_its_own_alarm(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, initializer=block_alarm)
    # Nobody hears of a signal that is blocked unless somebody waits for it.
    keeper = executor.submit(signal.sigwait, {signal.SIGALRM})
    seconds = [0.4, 0.1, 0.3, 0.2]
    waiting = [executor.submit(alarmed, each, gate) for each in seconds]
    handling = [executor.submit(handled_alarm, each) for each in (0.05, 0.15, 0.35)]
    assert [call.result(timeout=30) for call in waiting] == [
        (signal.SIGALRM, each) for each in seconds
    ]
    assert [call.result(timeout=30) for call in handling] == ["heard 1"] * 3
    assert keeper.cancel()


def test_a_stopped_wait_takes_nothing(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    late = executor.options(timeout=0.2).submit(signal.sigwait, {signal.SIGUSR1})
    assert "CallTimeout" in repr(late.exception(timeout=30))
    cancelled = executor.submit(wait_for, by_sigwait, gate, "cancelled")
    gate.wait_for(1)
    assert cancelled.cancel()
    waiting = executor.submit(wait_for, by_sigwait, gate, "waiting")
    gate.wait_for(2)
    os.kill(pid, signal.SIGUSR1)
    assert waiting.result(timeout=30) == signal.SIGUSR1
    assert executor.submit(pid_of).result(timeout=30) == pid


def refused() -> list[str]:
    attempts: list[Callable[[], object]] = [
        lambda: signal.sigwait({1000}),
        lambda: signal.sigwait(7),  # type: ignore[arg-type]
        lambda: signal.sigwaitinfo({"x"}),  # type: ignore[arg-type]
        lambda: signal.sigtimedwait(SIGNALS, -1),
        lambda: signal.sigtimedwait(SIGNALS, "x"),  # type: ignore[arg-type]
        lambda: signal.pthread_kill("x", 0),  # type: ignore[arg-type]
        lambda: signal.pthread_kill(threading.get_ident(), 1000),
    ]
    texts = []
    for attempt in attempts:
        try:
            attempt()
        except (TypeError, ValueError, OSError) as error:
            texts.append(type(error).__name__)
    return texts


def test_what_is_refused_elsewhere_is_refused_here(make: Make) -> None:
    assert make().submit(refused).result(timeout=30) == refused()
