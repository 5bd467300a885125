"""Wrong arguments of executors are refused with an error that says what to do instead."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import resource
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor, checks

from .conftest import Make, make_executor
from .helpers import run_script, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

HUGE = 10**9


#: Arguments of the constructor, what each refusal is and a word that it says.
REFUSED = [
    ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
    ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
    ({"max_workers": HUGE}, ValueError, "max_workers must be at most"),
    ({"max_workers": True}, TypeError, "max_workers"),
    ({"max_workers": 2.0}, TypeError, "max_workers"),
    ({"max_workers": "2"}, TypeError, "max_workers"),
    ({"mp_context": "spawn"}, TypeError, "get_context"),
    ({"mp_context": 1}, TypeError, "mp_context"),
    ({"mp_context": multiprocessing.get_context}, TypeError, "mp_context"),
    ({"initializer": 3}, TypeError, "initializer must be a callable"),
    ({"initializer": square, "initargs": 3}, TypeError, "initargs"),
    ({"initializer": square, "initargs": None}, TypeError, "initargs"),
    ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
    ({"max_tasks_per_child": -3}, ValueError, "max_tasks_per_child must be >= 1"),
    ({"max_tasks_per_child": "3"}, TypeError, "max_tasks_per_child must be an integer"),
    ({"max_tasks_per_child": True}, TypeError, "max_tasks_per_child"),
    ({"max_tasks_per_child": 1.0}, TypeError, "max_tasks_per_child"),
    ({"concurrency": 0}, ValueError, "concurrency must be greater than 0"),
    ({"concurrency": -5}, ValueError, "concurrency must be greater than 0"),
    ({"concurrency": HUGE}, ValueError, "concurrency must be at most"),
    ({"concurrency": True}, TypeError, "concurrency"),
    ({"concurrency": 1.5}, TypeError, "concurrency"),
    ({"concurrency": None}, TypeError, "concurrency"),
    ({"on_worker_loss": "ignore"}, ValueError, "on_worker_loss"),
    ({"on_worker_loss": None}, ValueError, "on_worker_loss"),
    ({"max_pending": 0}, ValueError, "max_pending"),
    ({"max_pending": -1}, ValueError, "max_pending"),
    ({"max_pending": True}, TypeError, "max_pending"),
    ({"max_pending": "many"}, TypeError, "max_pending"),
    ({"monkey_patch": 1}, TypeError, "monkey_patch"),
    ({"monkey_patch": None}, TypeError, "monkey_patch"),
    ({"monkey_patch": "all"}, TypeError, "monkey_patch"),
    ({"monkey_patch": {"socket": 1}}, TypeError, "socket"),
    # gevent itself would take any name, and patch nothing for it.
    ({"monkey_patch": {"sockets": True}}, (TypeError, ValueError), "sockets"),
    ({"monkey_patch": {1: True}}, TypeError, "monkey_patch"),
    ({"preload": "json"}, TypeError, r"\['json'\]"),
    ({"preload": [types.ModuleType("json")]}, TypeError, "preload"),
    ({"preload": 3}, TypeError, "preload"),
    ({"workers": 3}, TypeError, "workers"),
]


def say(argument: Any) -> str | None:
    # Without addresses: processes that share the tests between them must name them alike.
    return re.sub(r" at 0x\w+", "", repr(argument))[:40] if isinstance(argument, dict) else None


@pytest.mark.parametrize(("arguments", "kind", "text"), REFUSED, ids=say)
def test_a_wrong_argument_is_refused_by_name(
    arguments: dict[str, Any], kind: Any, text: str
) -> None:
    with pytest.raises(kind, match=text):
        HybridExecutor(**arguments)


def test_a_refused_executor_leaves_no_process_and_no_descriptor() -> None:
    gc.collect()  # what other tests have left
    before = set(os.listdir("/proc/self/fd"))
    for arguments, kind, _ in REFUSED:
        with pytest.raises(kind):
            HybridExecutor(**arguments)
    wait_until(lambda: set(os.listdir("/proc/self/fd")) <= before)


def test_fork_and_max_tasks_per_child_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="max_tasks_per_child is incompatible with the 'fork'"):
        make_executor("fork", max_tasks_per_child=1)


def test_max_tasks_per_child_needs_no_context() -> None:
    with HybridExecutor(1, max_tasks_per_child=3) as executor:
        assert executor.submit(square, 3).result(timeout=30) == 9


def test_options_after_initargs_are_by_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        HybridExecutor(1, None, None, (), 5)


def test_a_preloaded_module_that_does_not_exist_is_reported(make_each: Make) -> None:
    executor = make_each(preload=["no_such_module"])
    error = executor.submit(square, 1).exception(timeout=60)
    assert error is not None
    assert "no_such_module" in str(error)


# -- scripts --------------------------------------------------------------------------------------

NO_GUARD = """
import multiprocessing, sys
from hybridexec import HybridExecutor

executor = HybridExecutor(2, multiprocessing.get_context(sys.argv[1]))
print("made", flush=True)
print(executor.submit(pow, 2, 3).result())
"""


FEW_DESCRIPTORS = """
import codecs, os, resource, sys, warnings
from hybridexec import HybridExecutor

resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
HybridExecutor, codecs.lookup("ascii")  # loaded while their files can be read
if os.geteuid() == 0:
    os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    HybridExecutor(1, concurrency=1_000)
for warning in caught:
    print(warning.filename == __file__, warning.message)
"""


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_a_missing_main_guard_is_reported_with_its_remedy(tmp_path: Path, start: str) -> None:
    run = run_script(tmp_path / "script.py", NO_GUARD, start, check=False)
    assert run.returncode != 0
    # The parent's own, and no worker's: none got as far as making an executor.
    assert run.stdout == "made\n"
    assert 'if __name__ == "__main__"' in run.stderr
    assert "ExecutorBroken" in run.stderr


def test_too_few_descriptors_are_reported_with_a_remedy(tmp_path: Path) -> None:
    run = run_script(tmp_path / "script.py", FEW_DESCRIPTORS)
    assert run.stdout.startswith("True concurrency=1,000")
    assert "ulimit" in run.stdout


def test_the_descriptor_limit_is_shown_to_those_who_cannot_raise_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, 4_096))
    monkeypatch.setattr(checks, "_may_raise_limits", lambda: False)
    with pytest.warns(RuntimeWarning, match=r"concurrency=5,000 .* hard limit is 4,096"):
        HybridExecutor(1, concurrency=5_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HybridExecutor(1, concurrency=4_000)
        monkeypatch.setattr(checks, "_may_raise_limits", lambda: True)
        HybridExecutor(1, concurrency=5_000)


def test_calls_that_open_nothing_may_be_more_than_the_descriptor_limit_allows(make: Make) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, hard), hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            executor = make(max_workers=1, concurrency=min(hard, 1_000_000))
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_many(count: int) -> int:
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    for file in files:
        os.close(file)
    return len(files)


def test_workers_may_open_a_descriptor_for_each_slot(make_each: Make) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, hard), hard))
    try:
        executor = make_each(max_workers=1, concurrency=3_000)
        assert executor.submit(open_many, 3_000).result(timeout=30) == 3_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- /dev/shm -------------------------------------------------------------------------------------


def mapped_segments(pid: object) -> set[str]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {line.split()[5] for line in maps.splitlines() if "/dev/shm" in line}


def test_nothing_of_dev_shm_is_used(make_each: Make) -> None:
    before = mapped_segments("self")
    executor = make_each()
    assert executor.submit(len, bytes(1_000_000)).result(timeout=30) == 1_000_000
    # A forked worker has its parent's too, such as the locks of other tests.
    for pid in ("self", *executor._processes):
        assert mapped_segments(pid) <= before


def test_without_memfd_the_status_page_is_a_nameless_file(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    executor = make(max_workers=1)
    assert executor.submit(square, 5).result(timeout=30) == 25
    assert executor.stats().workers[0].done == 1
    assert list(tmp_path.iterdir()) == []
