"""options(timeout=): imports do not count, are not cut short, and are stopped all the same."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hybridexec.worker.greenlets import runners, watch

from .conftest import Make
from .helpers import pid_of, wait_until
from .stopped_calls import TIMEOUT, burn, times_out

SLOW_MODULE = """
import os, time
if os.getpid() != {parent}:
    {import_it}

def answer():
    return 42
"""


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Makes a module that takes its time to be imported, but not here."""

    def make(import_it: str) -> ModuleType:
        text = SLOW_MODULE.format(parent=os.getpid(), import_it=import_it)
        (tmp_path / "slow_to_import.py").write_text(text)
        return importlib.import_module("slow_to_import")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)
    return make


@pytest.mark.slow
@pytest.mark.parametrize("import_it", ["time.sleep(1.5)", "sum(range(50_000_000))"])
def test_the_import_of_a_calls_function_is_no_part_of_its_time(
    make: Make, slow_module: Callable[[str], ModuleType], import_it: str
) -> None:
    answer = slow_module(import_it).answer
    executor = make(max_workers=1, timeout_grace=0.3)
    pid = executor.submit(pid_of).result(timeout=30)
    assert executor.options(timeout=TIMEOUT).submit(answer).result(timeout=30) == 42
    assert executor.submit(pid_of).result(timeout=30) == pid


def be_impatient() -> None:
    runners.LOAD_SECONDS = watch.LOAD_SECONDS = 0.1  # type: ignore[attr-defined]  # imported there


def test_an_import_that_never_ends_times_out(
    make: Make, slow_module: Callable[[str], ModuleType]
) -> None:
    answer = slow_module("time.sleep(60)").answer
    executor = make(max_workers=1, timeout_grace=0.3, initializer=be_impatient)
    times_out(executor.options(timeout=TIMEOUT).submit(answer))


ONLY_ONCE = """
import os, time
if os.path.exists({mark!r}):
    raise ImportError("cannot be imported again")
open({mark!r}, "w").close()
end = time.monotonic() + 0.6
while time.monotonic() < end:
    pass
"""


def import_it() -> str:
    return importlib.import_module("only_once").__name__


def import_it_and_burn() -> None:
    import_it()
    burn()


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_a_call_is_not_stopped_in_the_midst_of_an_import(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    mark = tmp_path / "begun"
    (tmp_path / "only_once.py").write_text(ONLY_ONCE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    executor = make(max_workers=1, timeout_grace=30.0)
    pid = executor.submit(pid_of).result(timeout=30)
    call = executor.options(timeout=timeout).submit(import_it_and_burn)
    wait_until(mark.exists)
    if timeout is None:
        assert call.cancel()
    else:
        times_out(call)
    assert executor.submit(import_it).result(timeout=30) == "only_once"
    assert executor.submit(pid_of).result(timeout=30) == pid
