"""What programs do that ask for a ProcessPoolExecutor and get a HybridExecutor."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, process
from pathlib import Path
from typing import Any

import pytest

from hybridexec import ExecutorBroken, ExecutorView, HybridExecutor, WorkerLost

from .conftest import METHODS, Make, make_executor
from .helpers import Gate, is_alive, pid_of, run_script, wait_until

#: Of the base's, what a program may call.
METHODS_OF_BASE = [
    name
    for name, value in vars(ProcessPoolExecutor).items()
    if inspect.isfunction(value) and name != "__init__"
]


def attributes_of_base() -> list[str]:
    """What an instance of the base has."""
    executor = ProcessPoolExecutor(1)
    executor.shutdown()
    return list(vars(executor))


@pytest.fixture(params=["executor", "view"])
def either(request: pytest.FixtureRequest, make: Make) -> Any:
    """An executor of at most 3 workers, and a view of one."""
    executor = make(max_workers=3, concurrency=1)
    return executor if request.param == "executor" else executor.options(timeout=30)


def test_it_is_a_process_pool_executor_and_so_are_its_views(either: Any) -> None:
    assert isinstance(either, ProcessPoolExecutor)
    assert issubclass(HybridExecutor, process.ProcessPoolExecutor)
    assert issubclass(ExecutorView, process.ProcessPoolExecutor)
    with either as executor:
        assert isinstance(executor, ProcessPoolExecutor)
        assert executor.submit(abs, -1).result(timeout=30) == 1


IN_A_CALL = """
import sys

from hybridexec import HybridExecutor


def look():
    before = "concurrent.futures.process" in sys.modules
    from concurrent.futures import ProcessPoolExecutor

    with HybridExecutor(1) as inner:
        is_one = isinstance(inner, ProcessPoolExecutor)
    is_kind = issubclass(HybridExecutor, ProcessPoolExecutor)
    return before, is_one, is_kind, HybridExecutor.__mro__


if __name__ == "__main__":
    import multiprocessing

    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, mp_context=context) as executor:
        *answers, mro = executor.submit(look).result()
        assert mro == HybridExecutor.__mro__
        print(answers)
"""


@pytest.mark.parametrize("method", METHODS)
def test_in_a_worker_it_becomes_one_when_somebody_can_ask(method: str, tmp_path: Path) -> None:
    # Before that, the worker's start would wait for what the base is made of.
    script = tmp_path / "script.py"
    script.write_text(IN_A_CALL)
    done = subprocess.run(
        [sys.executable, str(script), method],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[{method == 'fork'}, True, True]\n"


WITHIN_A_CALL = """
from hybridexec import HybridExecutor


def work():
    with HybridExecutor(1) as inner, inner.options(timeout=30) as view:
        return view.submit(abs, -1).result()


if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        print(executor.submit(work).result())
"""


def test_a_call_may_make_an_executor_though_nobody_has_asked_for_its_base(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", WITHIN_A_CALL)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("name", METHODS_OF_BASE)
def test_nothing_of_the_base_class_can_be_called(name: str) -> None:
    for kind in (HybridExecutor, ExecutorView):
        assert inspect.getattr_static(kind, name) is not vars(ProcessPoolExecutor)[name]


@pytest.mark.parametrize("name", attributes_of_base())
def test_an_attribute_of_the_base_is_answered_or_refused_with_a_reason(
    name: str, either: Any
) -> None:
    if hasattr(either, name):
        return
    with pytest.raises(AttributeError) as caught:
        getattr(either, name)
    assert f"{type(either).__name__!r} object has no attribute {name!r}" in str(caught.value)
    assert "it has _max_workers, _processes" in str(caught.value)
    assert caught.value.name == name


def test_attributes_that_do_not_exist_anywhere(either: Any) -> None:
    for name in ("submitt", "_Calls__x", "__len__"):
        with pytest.raises(AttributeError) as caught:
            getattr(either, name)
        assert str(caught.value).startswith(
            f"{type(either).__name__!r} object has no attribute {name!r}"
        )


def test_a_subclass_that_looks_at_itself_too_early() -> None:
    class Early(HybridExecutor):
        def __init__(self) -> None:
            self.early = getattr(self, "_processes", None)
            super().__init__(1)

    with pytest.raises(AttributeError, match="_assembly"):
        getattr(Early.__new__(Early), "_max_workers")  # noqa: B009  # it is what is looked at
    with Early() as executor:
        assert executor.early is None


def test_what_can_be_read(either: Any, gate: Gate) -> None:
    assert either._max_workers == 3
    assert either._processes == {}
    assert either._broken is False
    assert either._shutdown_thread is False
    assert len(either._pending_work_items) == 0
    assert not either._pending_work_items
    futures = [either.submit(gate.wait, n) for n in range(5)]
    gate.wait_for(3)
    assert len(either._pending_work_items) == 5
    assert len(either._processes) == 3
    for pid, worker in either._processes.items():
        assert worker.pid == pid
        assert worker.is_alive()
    gate.open()
    assert sorted(future.result(timeout=30) for future in futures) == list(range(5))
    assert not either._pending_work_items
    either.shutdown()
    assert either._shutdown_thread is True
    assert either._processes == {}


def test_a_broken_executor_says_so(make: Make) -> None:
    executor = make(initializer=int, initargs=("x",))
    with pytest.raises(ExecutorBroken):
        executor.submit(abs, -1).result(timeout=30)
    assert "invalid literal" in str(executor._broken)
    assert executor.options()._broken == executor._broken


@pytest.mark.parametrize("method", METHODS)
def test_what_it_was_asked_for(method: str) -> None:
    with make_executor(method, initializer=print, initargs=[""]) as executor:
        for either in (executor, executor.options(retries=1)):
            assert either._mp_context.get_start_method() == method
            assert either._initializer is print
            assert either._initargs == ("",)
            assert either._max_tasks_per_child is None
            assert either._mp_context.Queue().empty()


def test_an_attribute_that_a_program_sets_is_what_it_finds(make: Make) -> None:
    executor: Any = make()
    executor._max_workers = 7
    assert executor._max_workers == 7


@pytest.mark.parametrize("method", METHODS)
def test_workers_can_be_started_before_the_first_call(method: str, make_each: Make) -> None:
    # As torch.compile does it, so that they are forked while the process is small.
    executor: Any = make_each(max_workers=3)
    assert isinstance(executor, ProcessPoolExecutor)
    if hasattr(executor, "_start_queue_management_thread"):
        executor._start_queue_management_thread()
    else:
        for _ in range(3):
            executor._adjust_process_count()
        if hasattr(executor, "_start_executor_manager_thread"):
            executor._start_executor_manager_thread()
    wait_until(lambda: [w.state for w in executor.stats().workers] == ["ready"] * 3)
    pids = set(executor._processes)
    assert executor.submit(pid_of).result(timeout=30) in pids
    executor._spawn_process()  # there are as many as there may be
    executor._launch_processes()
    assert executor.submit(pid_of).result(timeout=30) in pids
    assert set(executor._processes) == pids
    executor.shutdown()
    wait_until(lambda: not any(map(is_alive, pids)))
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor._adjust_process_count()


def test_all_workers_are_started_at_once_if_asked_for(make: Make) -> None:
    executor: Any = make(max_workers=3)
    executor.options(timeout=30)._launch_processes()
    wait_until(lambda: len(executor._processes) == 3)


def test_an_executor_that_never_had_a_call_ends_with_its_workers() -> None:
    executor: Any = HybridExecutor(2)
    executor._launch_processes()
    pids = wait_until(lambda: len(executor._processes) == 2 and list(executor._processes))
    executor.shutdown()
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("terminate_workers", signal.SIGTERM),
        ("kill_workers", signal.SIGKILL),
        ("terminate", signal.SIGTERM),
        ("kill", signal.SIGKILL),
    ],
)
def test_workers_can_be_ended_through_a_view(how: str, number: int, gate: Gate, make: Make) -> None:
    executor = make(max_workers=1)
    view: Any = executor.options(retries=1)
    future: Future[object] = view.submit(gate.wait, "call")
    gate.wait_for(1)
    getattr(view, how)() if "_" in how else view._force_shutdown(operation=how)
    error = future.exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.exitcode == -number
    with pytest.raises(RuntimeError):
        executor.submit(abs, -1)
    with pytest.raises(ValueError, match="Unsupported operation"):
        view._force_shutdown("x")


def test_the_processes_can_be_ended_one_by_one(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    future = executor.submit(gate.wait, "call")
    gate.wait_for(1)
    for worker in executor._processes.values():
        worker.kill()
        worker.join()
    assert isinstance(future.exception(timeout=30), WorkerLost)


def test_the_processes_can_be_asked_how_they_ended(either: HybridExecutor) -> None:
    either._launch_processes()
    processes = list(either._processes.values())
    either.submit(abs, -1).result(timeout=60)
    either.shutdown()
    for worker in processes:
        worker.join()
        # One that has not got ready by then is killed.
        assert worker.exitcode in (0, -signal.SIGKILL)
        assert not worker.is_alive()
        assert worker not in multiprocessing.active_children()


def test_a_process_can_be_waited_for_by_many(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    future = executor.submit(gate.wait, "call")
    gate.wait_for(1)
    (worker,) = executor._processes.values()
    with ThreadPoolExecutor(8) as threads:
        ends = [threads.submit(worker.join, None if n % 2 else 60) for n in range(8)]
        worker.kill()
        assert isinstance(future.exception(timeout=60), WorkerLost)
        for end in ends:
            end.result(timeout=60)
    assert worker.exitcode == -signal.SIGKILL


def test_swapping_the_class_in_by_name() -> None:
    program = """
import concurrent.futures, hybridexec
concurrent.futures.ProcessPoolExecutor = hybridexec.HybridExecutor
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1) as executor:
    assert isinstance(executor, ProcessPoolExecutor)
    print(executor.submit(abs, -7).result())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "7\n", done.stderr


def test_it_works_in_a_worker_too(make: Make) -> None:
    assert make().submit(_is_one).result(timeout=60) == (True, 1)


def _is_one() -> tuple[bool, int]:
    with HybridExecutor(1) as executor:
        executor.submit(os.getpid).result()
        return isinstance(executor, ProcessPoolExecutor), executor._max_workers
