"""Programs as parents: where ``__main__`` is, what it imports, and who runs it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import zipapp
from pathlib import Path

import pytest
from parent_runs import ALL_METHODS, METHODS, SCRIPTS, assert_nothing_left, kill_group, run, start

PLAIN = [
    "map: [0, 2, 4, 6, 8]",
    "result keeps its class: True 4 5",
    "argument keeps its class: True",
    "class as the function: True",
    "enum member: True",
    "class itself: True",
    "exception: Refused('no')",
    "its class: True",
    "closure: 15",
    "closure over a class: True",
]


@pytest.mark.parametrize("method", ALL_METHODS)
def test_a_scripts_own_functions_and_classes_travel_by_reference(method: str) -> None:
    lines = run(SCRIPTS / "plain.py", method)
    worker = lines.pop(1)
    assert lines == PLAIN
    name, imported_there = ("__main__", False) if method == "fork" else ("__mp_main__", True)
    assert worker == f"main in the worker: True {name} {imported_there} ['{method}']"


@pytest.mark.parametrize("folder", ["with spaces", "ünïcode", "quo'te\"d"])
def test_a_script_in_a_folder_with_an_odd_name(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    script = shutil.copy(SCRIPTS / "plain.py", tmp_path / folder / "my script.py")
    for method in METHODS:
        lines = run(script, method, cwd=tmp_path / folder)
        assert lines[:1] + lines[2:] == PLAIN


def test_a_script_named_relatively_that_changes_its_folder(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import os\nfrom hybridexec import HybridExecutor\n"
        "def name(): return __name__, os.getcwd()\n"
        "if __name__ == '__main__':\n"
        "    os.chdir('/')\n"
        "    with HybridExecutor(1) as executor:\n"
        "        print(*executor.submit(name).result())\n"
    )
    assert run("script.py", cwd=tmp_path) == ["__mp_main__ /"]


@pytest.mark.parametrize("method", METHODS)
def test_a_script_that_imports_what_gevent_patches(method: str) -> None:
    """Any warning, MonkeyPatchWarning too, is an error here and in the workers."""
    assert run("-W", "error", SCRIPTS / "imports_first.py", method) == [
        "patched: True True",
        "ssl: TLSv1_2 TLSv1_3",
        "requests: ConnectionError",
        "urllib3: NewConnectionError",
        "asyncio: True",
        "monkey-patched here: False",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_module_run_by_name(method: str) -> None:
    assert run("-m", "pack.job", method, cwd=SCRIPTS) == ["True True True __mp_main__ pack.job"]


@pytest.mark.parametrize("method", METHODS)
def test_a_package_run_by_name(method: str) -> None:
    """multiprocessing imports no ``__main__.py`` in workers, so what it defines goes by value."""
    assert run("-m", "pack", method, cwd=SCRIPTS) == ["True True True 3", "[0, 1, 2]"]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("method", METHODS)
def test_a_folder_or_zip_file_as_the_program(method: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    shutil.copy(SCRIPTS / "main_file.py", folder / "__main__.py")
    shutil.copy(SCRIPTS / "beside.py", folder)
    program = folder
    if kind == "zip":
        program = tmp_path / "program.pyz"
        zipapp.create_archive(folder, program)
        shutil.rmtree(folder)
    assert run(program, method) == ["[0, 3, 6]", "True True 4"]


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_that_the_program_put_on_its_path(method: str, tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text(
        "class Marker: pass\ndef square(number): return number * number\n"
    )
    assert run(SCRIPTS / "added_path.py", method, tmp_path) == ["[0, 1, 4, 9]", "True"]


@pytest.mark.parametrize("method", METHODS)
def test_threads_of_the_parent(method: str) -> None:
    assert run(SCRIPTS / "threads.py", method) == [
        "made in a thread: [0, 2, 4]",
        "shared by 8 threads: True",
        "submitted by a thread that ended: [0, 2, 4]",
        "while the main thread ends: 42",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_workers_started_after_the_scripts_last_line_find_its_functions(
    method: str, tmp_path: Path
) -> None:
    """Python takes ``__main__.__file__`` away before it waits for pending calls."""
    script = tmp_path / "last_line.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "from hybridexec import HybridExecutor\n"
        "def pid(): return os.getpid()\n"
        "def show(future): print(future.result(), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    executor = HybridExecutor(1, context, concurrency=1, max_tasks_per_child=1)\n"
        "    for _ in range(4): executor.submit(pid).add_done_callback(show)\n"
    )
    assert len(set(run(script, method))) == 4


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_of_another_executor(method: str) -> None:
    assert run(SCRIPTS / "nested.py", method) == [
        "hybrid in hybrid: 2",
        "processes in hybrid: 2",
        "threads in hybrid: 2",
        "three deep: 3",
        "hybrid in processes: 2",
    ]


@pytest.mark.parametrize("method", ALL_METHODS)
def test_a_process_of_multiprocessing(method: str) -> None:
    assert run(SCRIPTS / "process_parent.py", method) == [
        "work (True, True)",
        "exit code: 0",
        "work_and_leave True",
        "exit code: 0",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_asyncio(method: str) -> None:
    assert run(SCRIPTS / "asyncio_parent.py", method) == [
        "run_in_executor: 42",
        "wrap_future: True 8",
        "gather of 1000: True",
        "exception: [LookupError('not there'), 2]",
        "the loop goes on: True",
        "asubmit: True",
        "amap: True",
        "async with: 2",
        "wait_for: TimeoutError",
        "slot is free: True",
        "cancel: CancelledError",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_that_the_program_catches_leaves_the_workers_alone(method: str) -> None:
    stdout, stderr, exit_code = interrupt("caught", method)
    assert (stderr, exit_code) == ("", 0)
    assert stdout.splitlines() == [
        "KeyboardInterrupt",
        "the running call: 8",
        "further calls: [0, 2, 4]",
        "same workers: True",
        "shut down",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_ends_the_program_with_one_traceback(method: str) -> None:
    stdout, stderr, exit_code = interrupt("uncaught", method)
    assert stdout == ""
    assert exit_code in (-signal.SIGINT, 130)
    assert stderr.count("Traceback (most recent call last)") == 1, stderr
    assert stderr.splitlines()[-1] == "KeyboardInterrupt"


def interrupt(scenario: str, method: str) -> tuple[str, str, int]:
    """Run a program and, once it is ready, send SIGINT to its whole group, as a terminal does."""
    process = start(SCRIPTS / "interrupted.py", method, scenario)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        assert_nothing_left(process.pid)
        return stdout, stderr, process.returncode
    finally:
        kill_group(process.pid)


def test_the_workers_run_the_parents_interpreter() -> None:
    code = (
        "import sys, hybridexec\n"
        "with hybridexec.HybridExecutor(1) as executor:\n"
        "    print(executor.submit(eval, '__import__(\"sys\").executable').result())\n"
    )
    assert run("-c", code) == [sys.executable]
