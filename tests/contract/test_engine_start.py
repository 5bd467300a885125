"""A submission that raises has left nothing behind: its call never runs, and the next one does."""

from __future__ import annotations

import dis
import gc
import itertools
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from hybridexec import HybridExecutor, native
from hybridexec.parent.engine.engine import Engine
from hybridexec.parent.engine.entry_queue import EntryQueue
from hybridexec.parent.engine.io_thread import IoThread
from hybridexec.parent.lifecycle import _engines

from .conftest import Make, make_executor
from .helpers import wait_until


def leave_trace(folder: str, name: str) -> str:
    Path(folder, name).touch()
    return name


def after_calls(code: CodeType) -> list[int]:
    """Where in a function Ctrl-C is noticed: behind its calls."""
    pairs = itertools.pairwise(dis.get_instructions(code))
    return [after.offset for before, after in pairs if before.opname.startswith("CALL")]


def io_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hybridexec-io"]


def interrupted_at(code: CodeType, offset: int, action: Callable[[], object]) -> bool:
    """Run ``action`` and have Ctrl-C hit it there, once; whether it did."""
    hit = False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal hit
        if frame.f_code is not code or hit:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti == offset:
            hit = True
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


STEPS = [
    Engine.submit,
    *(
        pytest.param(step, marks=pytest.mark.slow)
        for step in (
            Engine._open,
            Engine._start,
            IoThread.start,
            EntryQueue.open,
            EntryQueue.submit,
        )
    ),
]


def name_of(step: Any) -> str:
    return str(step.__qualname__)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids=name_of)
def test_wherever_ctrl_c_hits_the_first_submit_its_call_never_runs(
    step: Any, tmp_path: Path
) -> None:
    code = step.__code__
    hits = 0
    for offset in after_calls(code):
        before = set(io_threads())
        executor = HybridExecutor(1)
        name = str(offset)
        submit = executor.submit
        executor._engine  # noqa: B018  # it is there: only what follows is interrupted
        if interrupted_at(code, offset, lambda: submit(leave_trace, str(tmp_path), name)):  # noqa: B023
            hits += 1
            assert executor.submit(leave_trace, str(tmp_path), "next").result(timeout=30) == "next"
            wait_until(lambda: len(set(io_threads()) - before) == 1)  # noqa: B023
            assert name not in os.listdir(tmp_path)
        executor.shutdown()
        wait_until(lambda: set(io_threads()) <= before)  # noqa: B023
        assert executor._engine not in _engines
    assert hits


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS[:4], ids=name_of)
def test_wherever_ctrl_c_hits_a_submit_that_forks_its_executor_ends(
    step: Any, tmp_path: Path
) -> None:
    code = step.__code__
    for offset in after_calls(code):
        executor = make_executor("fork", max_workers=1)
        name = str(offset)
        submit = executor.submit
        executor._engine  # noqa: B018
        hit = interrupted_at(code, offset, lambda: submit(leave_trace, str(tmp_path), name))  # noqa: B023
        executor.shutdown()
        assert executor._engine.ended.is_set()
        assert not hit or name not in os.listdir(tmp_path)


def test_a_first_submit_for_which_there_are_no_descriptors_is_undone(
    make: Make, tmp_path: Path
) -> None:
    executor = make(max_workers=1)
    executor._engine  # noqa: B018
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # so that nothing is closed meanwhile
    taken = [os.open(os.devnull, os.O_RDONLY)]
    # No descriptor can have a number from here on. Lower ones are used up one by one.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 50, hard))
    refusals = 0
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        for left in range(3):  # for the poller, and for both ends of a pipe
            with pytest.raises(OSError, match="Too many open files"):
                executor.submit(leave_trace, str(tmp_path), f"refused-{left}")
            refusals += 1
            os.close(taken.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert executor.submit(leave_trace, str(tmp_path), "next").result(timeout=30) == "next"
    assert refusals == 3
    assert os.listdir(tmp_path) == ["next"]


def test_a_map_that_raises_because_there_are_no_descriptors_is_undone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make(max_workers=1)

    def refuse(self: EntryQueue, poller: native.Poller) -> None:
        raise OSError(23, "Too many open files in system")

    for method in (executor.map, lambda *args: next(executor.outcomes(*args))):
        with monkeypatch.context() as patch:
            patch.setattr(EntryQueue, "open", refuse)
            with pytest.raises(OSError, match="in system"):
                method(leave_trace, [str(tmp_path)] * 3, "abc")
    assert executor.submit(abs, -1).result(timeout=30) == 1
    executor.shutdown()
    assert not os.listdir(tmp_path)


def test_an_executor_that_could_not_start_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    def refuse(*_: object) -> None:
        raise MemoryError

    executor = HybridExecutor(1, mp_context=None)
    executor._engine  # noqa: B018
    with monkeypatch.context() as patch:
        patch.setattr(native.Poller, "wait", refuse)
        patch.setattr(os, "set_blocking", refuse)
        with pytest.raises(MemoryError):
            executor.submit(abs, -1)
    executor.shutdown()
    if sys.platform == "linux":
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
