"""What greenlets, threads and callbacks of a call raise ends them, and nothing else."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import greenlet
import pytest
from gevent import monkey

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import Gate, pid_of, run_script

pytestmark = pytest.mark.slow_on("spawn", "fork")

KINDS = [SystemExit, KeyboardInterrupt, SystemError, MemoryError, GeneratorExit, ValueError]


def fail(kind: type[BaseException], *_: object) -> None:
    raise kind("on purpose")


def turns() -> str:
    """Let the hub see to what there is, a few times."""
    for _ in range(3):
        time.sleep(0.01)
    return "went on"


# -- what a call starts; each ends in the hub, in a greenlet or in a thread ------------------------


def in_greenlet(kind: type[BaseException]) -> str:
    gevent.joinall([gevent.spawn(fail, kind)])
    return turns()


def in_later_greenlet(kind: type[BaseException]) -> str:
    gevent.spawn_later(0, fail, kind).join()
    return turns()


def in_thread(kind: type[BaseException]) -> str:
    thread = threading.Thread(target=fail, args=(kind,))
    thread.start()
    thread.join()
    return turns()


def in_timer(kind: type[BaseException]) -> str:
    timer = threading.Timer(0, fail, (kind,))
    timer.start()
    timer.join()
    return turns()


def in_bare_thread(kind: type[BaseException]) -> str:
    _thread.start_new_thread(fail, (kind,))
    return turns()


def in_native_thread(kind: type[BaseException]) -> str:
    ended = gevent.event.Event()
    done = gevent.get_hub().loop.async_()
    done.start(ended.set)  # before the thread may send: to one that is not started it is lost

    def run() -> None:
        try:
            fail(kind)
        finally:
            done.send()

    monkey.get_original("_thread", "start_new_thread")(run, ())
    ended.wait()
    done.close()
    return turns()


def in_threadpool(kind: type[BaseException]) -> str:
    gevent.get_hub().threadpool.spawn(fail, kind).wait()
    return turns()


def in_callback(kind: type[BaseException]) -> str:
    gevent.get_hub().loop.run_callback(fail, kind)
    return turns()


def in_loop_timer(kind: type[BaseException]) -> str:
    timer = gevent.get_hub().loop.timer(0)
    timer.start(fail, kind)
    return turns()


def in_link(kind: type[BaseException]) -> str:
    done = gevent.spawn(int)
    done.link(lambda _: fail(kind))
    return turns()


def in_raw_link(kind: type[BaseException]) -> str:
    event = gevent.event.Event()
    event.rawlink(lambda _: fail(kind))
    event.set()
    return turns()


def in_signal_watcher(kind: type[BaseException]) -> str:
    watcher = gevent.signal_handler(signal.SIGUSR2, fail, kind)
    os.kill(os.getpid(), signal.SIGUSR2)
    turns()
    watcher.cancel()
    return turns()


def in_child_of_the_hub(kind: type[BaseException]) -> str:
    hub = gevent.get_hub()
    hub.loop.run_callback(greenlet.greenlet(lambda: fail(kind), hub).switch)
    return turns()


def in_child_of_the_main_greenlet(kind: type[BaseException]) -> str:
    hub = gevent.get_hub()
    hub.loop.run_callback(greenlet.greenlet(lambda: fail(kind), hub.parent).switch)
    hub.loop.run_callback(greenlet.greenlet(int, hub.parent).switch)
    return turns()


def in_finalizers(kind: type[BaseException]) -> str:
    def generate() -> Any:
        try:
            yield
        finally:
            fail(kind)

    class Finalized:
        def __del__(self) -> None:
            fail(kind)

    generator, finalized = generate(), Finalized()
    next(generator)
    weakref.finalize(finalized, fail, kind)
    del generator, finalized
    return turns()


STRAYS = [
    in_greenlet,
    in_later_greenlet,
    in_thread,
    in_timer,
    in_bare_thread,
    in_native_thread,
    in_threadpool,
    in_callback,
    in_loop_timer,
    in_link,
    in_raw_link,
    in_signal_watcher,
    in_child_of_the_hub,
    in_child_of_the_main_greenlet,
    in_finalizers,
]


@pytest.mark.parametrize("stray", STRAYS)
def test_it_ends_neither_its_call_nor_any_other(
    executor: HybridExecutor, gate: Gate, stray: Callable[..., str]
) -> None:
    neighbours = [executor.submit(gate.wait, number) for number in range(6)]
    gate.wait_for(6)
    assert list(executor.map(stray, KINDS)) == ["went on"] * len(KINDS)
    gate.open()
    assert [neighbour.result(timeout=30) for neighbour in neighbours] == list(range(6))


@pytest.mark.parametrize("switches", [{"concurrency": 1}, {"monkey_patch": False}])
@pytest.mark.parametrize("stray", [in_greenlet, in_callback, in_threadpool])
def test_nor_the_worker_of_a_call_that_is_alone(
    make: Make, stray: Callable[..., str], switches: dict[str, Any]
) -> None:
    executor = make(max_workers=1, **switches)
    pid = executor.submit(pid_of).result(timeout=30)
    assert list(executor.map(stray, KINDS)) == ["went on"] * len(KINDS)
    assert executor.submit(pid_of).result(timeout=30) == pid


def start_strays() -> None:
    for kind in KINDS:
        gevent.spawn(fail, kind)
    turns()


def test_nor_the_worker_whose_initializer_has_started_it(make: Make) -> None:
    executor = make(max_workers=1, initializer=start_strays)
    assert executor.submit(turns).result(timeout=30) == "went on"


# -- who waits for it hears of it ------------------------------------------------------------------


def wait_for_greenlet(kind: type[BaseException]) -> None:
    gevent.joinall([gevent.spawn(fail, kind)], raise_error=True)


def get_greenlet(kind: type[BaseException]) -> None:
    gevent.spawn(fail, kind).get()


def apply_in_thread(kind: type[BaseException]) -> None:
    gevent.get_hub().threadpool.apply(fail, (kind,))


async def callback_fails(kind: type[BaseException]) -> None:
    asyncio.get_running_loop().call_soon(fail, kind)
    await asyncio.sleep(30)


def run_loop(kind: type[BaseException]) -> None:
    asyncio.run(callback_fails(kind))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, SystemError])
@pytest.mark.parametrize("wait", [wait_for_greenlet, get_greenlet, apply_in_thread])
def test_it_is_raised_in_the_call_that_waits(
    executor: HybridExecutor, wait: Callable[..., None], kind: type[BaseException]
) -> None:
    error = executor.submit(wait, kind).exception(timeout=30)
    assert type(error) is kind
    assert error.args == ("on purpose",)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_call_s_loop_is_raised_in_the_call(
    executor: HybridExecutor, kind: type[BaseException]
) -> None:
    error = executor.submit(run_loop, kind).exception(timeout=30)
    assert type(error) is kind


# -- what is printed -------------------------------------------------------------------------------

PRINT = """
import sys, gevent
from hybridexec import HybridExecutor

def stray(kind):
    gevent.joinall([gevent.spawn(kind, "on purpose"), gevent.spawn(throw, kind)])

def throw(kind):
    raise kind("on purpose")

if __name__ == "__main__":
    kind = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[sys.argv[1]]
    with HybridExecutor(1) as executor:
        executor.submit(stray, kind).result(timeout=30)
"""


def test_a_stray_exit_is_silent_and_other_errors_are_printed(tmp_path: Path) -> None:
    assert run_script(tmp_path / "print.py", PRINT, "SystemExit").stderr == ""
    printed = run_script(tmp_path / "print.py", PRINT, "KeyboardInterrupt").stderr
    assert printed.count("KeyboardInterrupt: on purpose") == 1
    assert "in throw" in printed
