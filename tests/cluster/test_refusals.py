"""What works on one machine only is refused, and errors say what to do."""

from __future__ import annotations

import multiprocessing
import resource
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import psutil
import pytest

from hybridexec import CallTimeout, ExecutorBroken, events
from hybridexec.cluster import ClusterExecutor

from . import calls
from .conftest import Connect, MakeDask
from .dasks import Dask
from .processes import wait_until


def size_of(memory: SharedMemory) -> int:
    return memory.size


def ignore(*arguments: object) -> None:
    pass


def import_missing() -> None:
    import a_module_of_nobody  # type: ignore[import-not-found]  # noqa: F401


def notes(error: BaseException | None) -> str:
    assert error is not None
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ({"max_workers": 3}, "workers_per_node"),
        ({"mp_context": multiprocessing.get_context("spawn")}, "fork server"),
        ({"affinity": "auto"}, "taskset"),
        ({"nonsense": 1}, "has no nonsense"),
    ],
)
def test_arguments_that_it_cannot_have(dask: Dask, argument: dict[str, Any], remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        ClusterExecutor(dask.address, **argument)


@pytest.mark.parametrize("what", ["Lock", "Queue", "Semaphore"])
def test_what_connects_processes_is_no_argument(executor: ClusterExecutor, what: str) -> None:
    made = getattr(multiprocessing.get_context("spawn"), what)()
    error = executor.submit(ignore, made).exception(30)
    assert isinstance(error, RuntimeError)
    assert "Pass plain data" in str(error)
    assert executor.submit(calls.double, 1).result(30) == 2


def test_nor_may_initargs_have_it(
    dask: Dask, connect: Connect, recwarn: pytest.WarningsRecorder
) -> None:
    executor = connect(dask, initializer=ignore, initargs=(multiprocessing.Lock(),))
    error = executor.submit(calls.double, 1).exception(30)
    assert isinstance(error, ExecutorBroken)
    assert "initargs" in str(error)
    assert "one machine" in str(error)
    assert not recwarn.list, "no worker is forked here"


def test_shared_memory_that_a_node_cannot_reach(executor: ClusterExecutor, dask: Dask) -> None:
    memory = SharedMemory(create=True, size=10)
    memory.unlink()  # as another machine sees it
    error = executor.submit(size_of, memory).exception(30)
    memory.close()
    assert isinstance(error, FileNotFoundError)
    assert "may be another machine, which cannot reach the files, sockets, shared" in notes(error)
    assert any(f"on node {node.name}" in notes(error) for node in dask.nodes)


def test_a_manager_that_a_node_cannot_reach(executor: ClusterExecutor) -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        error = executor.submit(ignore, manager.dict()).exception(30)
    assert isinstance(error, multiprocessing.AuthenticationError)
    assert "managers of this one" in notes(error)


def test_a_timeout_names_the_node(executor: ClusterExecutor, dask: Dask) -> None:
    error = executor.options(timeout=0.1).submit(calls.nap, 30.0).exception(30)
    assert isinstance(error, CallTimeout)
    assert any(f"on node {node.name}" in notes(error) for node in dask.nodes)


def test_a_module_that_a_call_does_not_find(executor: ClusterExecutor) -> None:
    error = executor.submit(import_missing).exception(30)
    assert isinstance(error, ModuleNotFoundError)
    assert "has no module a_module_of_nobody" in notes(error)
    assert "upload_file" in notes(error)


def test_names_are_looked_up_as_asked(dask: Dask, connect: Connect) -> None:
    executor = connect(dask, resolver="thread", dns_threads=3)
    assert executor.submit(dns_threads).result(30) == 3


def dns_threads() -> int:
    import gevent

    return int(gevent.get_hub().threadpool.maxsize)


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [(resource.RLIMIT_NOFILE, "ulimit -n"), (resource.RLIMIT_AS, "more memory")],
    ids=["descriptors", "memory"],
)
def test_a_node_that_lacks_something_says_so(
    make_dask: MakeDask, connect: Connect, limit: int, remedy: str
) -> None:
    dask = make_dask(1)
    (node,) = dask.nodes
    executor = connect(dask)
    told: list[events.WorkerStartFailed] = []
    agent = psutil.Process(node.agent)
    too_little = {
        resource.RLIMIT_NOFILE: agent.num_fds() + 2,
        resource.RLIMIT_AS: agent.memory_info().vms + 2**20,
    }
    before = resource.prlimit(agent.pid, limit)

    def note(event: events.WorkerStartFailed) -> None:
        resource.prlimit(agent.pid, limit, before)  # at once: the third that fails would break it
        told.append(event)

    executor.observe(note, events=events.WorkerStartFailed)  # type: ignore[arg-type]
    resource.prlimit(agent.pid, limit, (too_little[limit], before[1]))
    future = executor.submit(calls.double, 21)
    (failure,) = wait_until(lambda: told[:1], "no worker could be started")
    assert f"on node {node.name}" in failure.error
    assert remedy in failure.error
    assert future.result(60) == 42, "it is tried again"
    wait_until(
        lambda: len(node.workers()) == 2, "one, and its fork server: what was not started is not"
    )
