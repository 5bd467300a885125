"""options(propagate=...): calls find context variables set as they are in the caller."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hybridexec
from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make
from .helpers import run_script, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

request: ContextVar[str] = ContextVar("request id", default="none")
user: ContextVar[dict[str, Any]] = ContextVar("user")
unset: ContextVar[int] = ContextVar("unset")


@contextlib.contextmanager
def being(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    yield
    variable.reset(token)


def look(*_: object) -> str:
    return request.get()


def look_at_user(*_: object) -> tuple[str, dict[str, Any], bool]:
    time.sleep(0.001)
    return request.get(), user.get(), unset in contextvars.copy_context()


def change(number: int) -> tuple[str, Any]:
    """What a call finds; it changes all of it."""
    found = request.get(), user.get()["seen"]
    request.set(f"changed by {number}")
    user.get()["seen"] += 1
    time.sleep(0.001)
    return found


def test_calls_find_variables_as_they_are_in_the_caller(executor: HybridExecutor) -> None:
    view = executor.options(propagate=[request, user, unset])
    with being(request, "r1"), being(user, {"name": "Ada"}):
        expected = ("r1", {"name": "Ada"}, False)
        assert view.submit(look_at_user, 1).result(timeout=30) == expected
        assert list(view.map(look_at_user, range(50))) == [expected] * 50
        assert list(view.map_unordered(look_at_user, range(50))) == [expected] * 50
        assert [each.value for each in view.outcomes(look_at_user, range(50))] == [expected] * 50
        assert list(view.map(look_at_user, [(1, 2)] * 3, star=True)) == [expected] * 3
    assert view.submit(look).result(timeout=30) == "none"


def test_each_call_has_the_value_of_its_time(executor: HybridExecutor) -> None:
    view = executor.options(propagate=[request])
    futures = []
    for number in range(300):
        with being(request, f"r{number // 3}"):
            futures.append(view.submit(look))
    assert [each.result(timeout=30) for each in futures] == [f"r{n // 3}" for n in range(300)]


def test_a_map_has_the_values_of_its_call_though_it_is_read_later(executor: HybridExecutor) -> None:
    view = executor.options(propagate=[request])
    with being(request, "then"):
        results = view.map(look, range(100), buffersize=4)
        unordered = view.map_unordered(look, range(100), buffersize=4)
    assert {*results, *unordered} == {"then"}


def test_tasks_have_contexts_of_their_own(make: Make) -> None:
    view = make(max_pending=3).options(propagate=[request])

    async def ask(number: int) -> Any:
        with being(request, f"r{number}"):
            return await view.asubmit(look)

    async def main() -> None:
        expected = [f"r{number}" for number in range(50)]
        assert await asyncio.gather(*map(ask, range(50))) == expected
        with being(request, "then"):
            results = view.amap(look, range(10))
        assert {value async for value in results} == {"then"}

    asyncio.run(main())


def test_threads_have_contexts_of_their_own(executor: HybridExecutor) -> None:
    view = executor.options(propagate=[request])
    found: dict[int, set[str]] = {}

    def ask(number: int) -> None:
        request.set(f"thread {number}")
        found[number] = {view.submit(look).result(timeout=30) for _ in range(20)}

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {f"thread {number}"} for number in range(4)}


def test_what_a_call_changes_no_other_sees(executor: HybridExecutor) -> None:
    view = executor.options(propagate=[request, user])
    with being(request, "mine"), being(user, {"seen": 0}):
        assert set(view.map(change, range(200))) == {("mine", 0)}
        futures = [view.submit(change, number) for number in range(50)]
        assert {each.result(timeout=30) for each in futures} == {("mine", 0)}
        user.get()["seen"] = 7
        assert view.submit(change, 1).result(timeout=30) == ("mine", 7)
        assert (request.get(), user.get()) == ("mine", {"seen": 7})


def test_retries_have_them_too(make: Make, tmp_path: Path) -> None:
    view = make().options(retries=2, backoff=0.0, propagate=[request])
    with being(request, "once more"):
        assert view.submit(fail_at_first, str(tmp_path / "a")).result(timeout=30) == "once more"
        retrying = view.options(on_worker_loss="retry")
        killed = retrying.submit(die_at_first, str(tmp_path / "b"))
        assert killed.result(timeout=30) == "once more"


def fail_at_first(folder: str) -> str:
    if not os.path.exists(folder):
        os.mkdir(folder)
        raise OSError(request.get())
    return request.get()


def die_at_first(folder: str) -> str:
    if not os.path.exists(folder):
        os.mkdir(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    return request.get()


def test_it_goes_with_the_other_options(make: Make) -> None:
    executor = make()
    view = executor.options(propagate=[request]).options(timeout=0.1)
    with being(request, "late"):
        assert isinstance(view.submit(time.sleep, 60).exception(timeout=30), CallTimeout)
        assert isinstance(view.submit(spin).exception(timeout=30), CallTimeout)
        assert view.submit(look).result(timeout=30) == "late"
        assert view.options(propagate=[]).submit(look).result(timeout=30) == "none"
        assert view.submit(partial(look, 1)).result(timeout=30) == "late"
        assert view.submit(lambda: request.get() + "!").result(timeout=30) == "late!"


def spin() -> None:
    while True:
        pass


def test_errors_name_the_function(make: Make) -> None:
    view = make().options(propagate=[request])
    error = view.submit(fail, 1).exception(timeout=30)
    assert isinstance(error, ValueError)
    assert any("call fail(1)" in note for note in error.__notes__)
    with pytest.raises(TypeError, match="must be callable, not int"):
        view.submit(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="generate is a generator function"):
        view.submit(generate)
    running = view.submit(time.sleep, 30)
    wait_until(lambda: [each.call for each in view.stats().slowest] == ["sleep(30)"])
    running.cancel()


def fail(_: int) -> None:
    raise ValueError("no")


def generate() -> Iterator[int]:
    yield 1


def test_values_that_cannot_travel_fail_their_call_only(make: Make) -> None:
    view = make().options(propagate=[user])
    with being(user, {"lock": threading.Lock()}):
        error = view.submit(look_at_user).exception(timeout=30)
        assert isinstance(error, TypeError)
        assert any("context variable 'user'" in note for note in error.__notes__)
        assert [type(each) for each in view.map_unordered(look, [1], return_exceptions=True)] == [
            TypeError
        ]
    with being(user, {"bomb": Bomb()}):
        error = view.submit(look_at_user).exception(timeout=30)
        assert isinstance(error, ZeroDivisionError)
        assert any("context variable user:" in note for note in error.__notes__)
    with being(user, {}):
        assert view.submit(look_at_user).result(timeout=30)[1] == {}


class Bomb:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def test_large_values_travel(make: Make) -> None:
    view = make().options(propagate=[user])
    with being(user, {"data": bytes(1_000_000)}):
        assert view.submit(size_of_data).result(timeout=30) == 1_000_000
        assert set(view.map(size_of_data, range(20))) == {1_000_000}


def size_of_data(_: int = 0) -> int:
    return len(user.get()["data"])


def test_what_is_not_set_in_the_caller_is_not_set_in_the_call(make: Make) -> None:
    executor = make(initializer=set_unset)
    assert executor.submit(read_unset).result(timeout=30) == (5, "worker")
    view = executor.options(propagate=[unset])
    assert view.submit(read_unset).result(timeout=30) == (None, "worker")
    with being(unset, 6):
        assert view.submit(read_unset).result(timeout=30) == (6, "worker")
    assert set(view.map(read_unset, range(10))) == {(None, "worker")}
    assert view.submit(read_unset_later).result(timeout=30) == (None, "worker")


def set_unset() -> None:
    unset.set(5)
    request.set("worker")


def read_unset(_: int = 0) -> tuple[int | None, str]:
    return unset.get(None), request.get()


async def read_unset_later() -> tuple[int | None, str]:
    await asyncio.sleep(0)
    return read_unset()


def test_what_is_no_global_context_variable_is_refused(make: Make) -> None:
    executor = make()
    with pytest.raises(ValueError, match="cannot find the context variable 'local'"):
        executor.options(propagate=[ContextVar("local")])
    with pytest.raises(TypeError, match=r"must hold contextvars\.ContextVar objects, not str"):
        executor.options(propagate=["request"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="one goes into a list"):
        executor.options(propagate=request)  # type: ignore[arg-type]


MAIN = """
import sys
from contextvars import ContextVar
from hybridexec import HybridExecutor
import multiprocessing

request = ContextVar("request", default="none")

class Name(str):
    pass

def look(_=None):
    return request.get()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(2, context) as executor:
        view = executor.options(propagate=[request])
        request.set("main")
        print(view.submit(look).result(), *view.map(look, range(3)))
        request.set(Name("own"))
        print(view.submit(look).result(), *view.map(look, range(3)))
    hidden = ContextVar("hidden")
    hidden.set(1)
    with HybridExecutor(1, context) as executor:
        view = executor.options(propagate=[hidden])
        print(repr(view.submit(look).exception())[:50])
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_variables_of_a_script(method: str, tmp_path: Path) -> None:
    out = run_script(tmp_path / "script.py", MAIN, method).stdout.splitlines()
    assert out[:2] == ["main main main main", "own own own own"]
    assert out[2].startswith("None" if method == "fork" else "AttributeError")


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_variables_of_a_program_from_standard_input(method: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-", method],
        input=MAIN,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(hybridexec.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["main main main main", "own own own own"]
