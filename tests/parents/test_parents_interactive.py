"""Interpreters whose ``__main__`` no worker can import: what it defines travels by value."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client import KernelManager
from parent_runs import (
    ALL_METHODS,
    DEADLINE,
    METHODS,
    SCRIPTS,
    assert_nothing_left,
    kill_group,
    run,
    run_to_end,
    start,
)

SESSION = (SCRIPTS / "interactive.txt").read_text()
PRINTED = [
    "function: [0, 2, 4]",
    "global seen: 30 [0, 10, 20]",
    "lambda: 11",
    "result keeps its class: True 3",
    "argument keeps its class: True",
    "class as the function: True",
    "exception: True no",
    "redefined: redefined",
    "end of session",
]


#: What workers know of such a ``__main__``, and keep.
NAMESPACE = (SCRIPTS / "namespace.txt").read_text()
KNOWN = [
    "kept: [1, 2, 3] [4, 5] 0",
    "bound anew: [11, 12]",
    "redefined: 112 112",
    "seen: ['a'] ['a', 'b'] {}",
    "changed in place: ['c', 'z']",
    "cached: 6765 [0, 1, 4] (832040, 31, 'Squares.')",
    "dispatched: ['int', 'object', 'list of int']",
    "enums: True True True True True",
    "slots: 3 True False True True (4, -4) True",
    "named: Named(a=1, b='x') True Pair(a=1, b=2) True",
    "abstract: True super True True True",
    "circles: (True, True, True, 2) True",
    "one class: [(True, True), (True, True)]",
    "redefined class: (False, False) (True, True) True new True",
    "made anew: [(1, False, 1, 5), (2, False, 2, 5)] 0",
    "large: {1000000} 1",
    "decorated: ('timed', -3)",
    "handlers: (True, True, -2)",
    "cannot travel: TypeError True",
    "error: True code 5 5",
    "retried: 3",
    "retried for another: 6",
    "initializer: True True",
    "lambda: 1000000 prepared",
    "end of session",
]


def session(method: str, text: str = SESSION) -> str:
    return text.replace("@METHOD@", method)


@pytest.mark.parametrize("arguments", [("-",), ()], ids=["dash", "pipe"])
@pytest.mark.parametrize("method", METHODS)
def test_a_program_on_standard_input(method: str, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, stdin=session(method)) == PRINTED


@pytest.mark.parametrize("method", METHODS)
def test_a_program_on_the_command_line(method: str) -> None:
    assert run("-c", session(method)) == PRINTED


@pytest.mark.parametrize("method", ALL_METHODS)
def test_workers_keep_a_namespace_for_a_program_on_standard_input(method: str) -> None:
    assert run("-", stdin=session(method, NAMESPACE)) == KNOWN


@pytest.mark.parametrize("method", METHODS)
def test_an_interactive_interpreter_fed_by_a_pipe(method: str) -> None:
    done = run_to_end("-i", "-q", stdin=session(method))
    assert done.returncode == 0
    assert done.stdout.splitlines() == PRINTED
    assert "Error" not in done.stderr


def test_a_namespace_is_kept_for_an_interactive_interpreter() -> None:
    done = run_to_end("-i", "-q", stdin=session("forkserver", NAMESPACE))
    assert done.stdout.splitlines() == KNOWN
    assert "Error" not in done.stderr


#: What is typed into a program that workers can import, and what that prints.
ENTERED = (SCRIPTS / "entered.txt").read_text()
TOLD = [
    "entered: 7",
    "class: -3 True True __main__",
    "as the function: True True",
    "kinds: (True, False, False) (False, True, False) (False, False, True)",
    "of the file: True True",
    "dataclasses: True True",
    "kept: [1, 2, 3]",
    "lambda: 3",
    "redefined: redefined",
]


@pytest.mark.parametrize("how", ["inspect", "interact", "copy"])
@pytest.mark.parametrize("method", ALL_METHODS)
def test_what_is_entered_at_a_prompt_into_a_script_travels_by_value(method: str, how: str) -> None:
    inspect = ["-i"] if how == "inspect" else []
    done = run_to_end("-q", *inspect, SCRIPTS / "prompt.py", method, how, stdin=ENTERED)
    told = [line.rpartition(">>> ")[2] for line in done.stdout.splitlines()]
    assert [line for line in told if ":" in line] == TOLD


#: The same at pdb's prompt, which takes statements of one line only, and in its own interpreter.
DEBUGGED = """
!def mine(n): return scaled(n) + 1
print("entered:", executor.submit(mine, 3).result())
!class Point(object): __init__ = lambda self, x: setattr(self, "x", x)
!def flip(point): return Point(-point.x), isinstance(point, Point)
!flipped = executor.submit(flip, Point(3)).result()
print("class:", flipped[0].x, type(flipped[0]) is Point, flipped[1])
interact
def inner(n): return scaled(n) + 2

print("inner:", executor.submit(inner, 3).result())
count = 0
def bump():
    global count
    count += 1
    return count

print("kept:", [executor.submit(bump).result() for _ in range(3)])
"""


@pytest.mark.parametrize("method", ALL_METHODS)
def test_what_is_entered_in_the_debugger_travels_by_value(method: str) -> None:
    done = run_to_end(SCRIPTS / "prompt.py", method, "pdb", stdin=DEBUGGED)
    for line in ("entered: 7", "class: -3 True True", "inner: 8", "kept: [1, 2, 3]"):
        assert line in done.stdout, done.stdout + done.stderr


#: What is typed at a terminal, and what it must show that was not typed.
TYPED = """
from hybridexec import HybridExecutor
def double(number): return 2 * number

class Point: pass

executor = HybridExecutor(1)
print("function:", list(executor.map(double, [1, 2])))
print("class:", type(executor.submit(Point).result()) is Point)
print("lambda:", executor.submit(lambda: double(21)).result())
executor.shutdown()
exit()
"""
SHOWN = ("function: [2, 4]", "class: True", "lambda: 42")


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb", "PYTHON_BASIC_REPL": "1"}, {"TERM": "xterm", "PYTHON_COLORS": "0"}],
    ids=["basic", "screen"],
)
def test_an_interactive_interpreter_on_a_terminal(environment: dict[str, str]) -> None:
    """From 3.13 the interpreter at a full terminal is another program, itself a module's main."""
    controller, terminal = pty.openpty()
    process = start(
        "-q", stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd="/"
    )
    os.close(terminal)
    try:
        shown = read_until(controller, ">>> ")
        os.write(controller, TYPED.lstrip().replace("\n", "\r").encode())
        for text in SHOWN:
            shown += read_until(controller, text, shown)
        assert process.wait(DEADLINE) == 0
        assert_nothing_left(process.pid)
    finally:
        kill_group(process.pid)
        process.wait()
        os.close(controller)


def read_until(fd: int, text: str, shown: str = "") -> str:
    """What else a terminal shows until ``text`` is there."""
    more = ""
    deadline = time.monotonic() + DEADLINE
    while text not in shown + more:
        assert time.monotonic() < deadline, shown + more
        if select.select([fd], [], [], 1)[0]:
            more += os.read(fd, 65536).decode(errors="replace")
    return more


# -- Jupyter ------------------------------------------------------------------------------------


class Notebook:
    """A kernel, and what its cells print."""

    def __init__(self, manager: KernelManager) -> None:
        #: All that was ever sent to be shown.
        self.messages: list[dict[str, Any]] = []
        self._interrupt = manager.interrupt_kernel
        self._client = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=DEADLINE)

    def run(self, cell: str, interrupt_at: str | None = None) -> str:
        """Run a cell, perhaps interrupt it at what it prints; return that."""
        printed: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            self.messages.append(message)
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
                if printed[-1] == interrupt_at:
                    self._interrupt()

        reply = self._client.execute_interactive(
            cell, allow_stdin=False, timeout=DEADLINE, output_hook=collect
        )
        content = reply["content"]
        assert content["status"] == "ok", "\n".join(content.get("traceback", ()))
        return "".join(printed)

    def close(self) -> None:
        self._client.stop_channels()


@contextmanager
def notebook() -> Iterator[Notebook]:
    manager = KernelManager()
    manager.start_kernel(extra_arguments=["--HistoryManager.enabled=False"])
    group = manager.provisioner.pid
    try:
        book = Notebook(manager)
        try:
            yield book
        finally:
            book.close()
            manager.shutdown_kernel()
        assert_nothing_left(group)
    finally:
        kill_group(group)
        manager.cleanup_resources()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_jupyter_notebook(method: str) -> None:
    *cells, _ = session(method).split("\n\n")
    with notebook() as book:
        printed = "".join(book.run(cell) for cell in cells)
        assert printed.splitlines() == PRINTED[:-2]
        # An edited cell is run again: the same executor takes the new definition.
        book.run("def scaled(number):\n    return 'edited', FACTOR")
        assert book.run("print(executor.submit(scaled, 0).result())") == "('edited', 10)\n"
        book.run("class Point(Point):\n    kind = 'edited'")
        cell = "made = executor.submit(Point, 5).result(); print(type(made) is Point, made.kind)"
        assert book.run(cell) == "True edited\n"
        # In a notebook one more cell waits for what an earlier one submitted.
        book.run("import time; future = executor.submit(time.sleep, 0.2)")
        assert book.run("print(future.result())") == "None\n"
        # The executor is left open: the kernel's end must take the workers with it.


@pytest.mark.slow
def test_workers_keep_a_namespace_for_a_notebook() -> None:
    *cells, _ = session("forkserver", NAMESPACE).split("\n\n")
    with notebook() as book:
        assert "".join(book.run(cell) for cell in cells).splitlines() == KNOWN[:-1]
        # A cell that is run again binds anew what it binds.
        book.run("executor = HybridExecutor(1)\nfound = []")
        book.run("def find(n):\n    found.append(n)\n    return found")
        assert book.run("print(call(find, 1), call(find, 2))") == "[1] [1, 2]\n"
        book.run("found = []")
        assert book.run("print(call(find, 3))") == "[3]\n"
        book.run("found += [7]")
        assert book.run("print(call(find, 4))") == "[7, 4]\n"


@pytest.mark.slow
def test_an_interrupted_map_leaves_the_slots_free() -> None:
    with notebook() as book:
        book.run("import time\nfrom hybridexec import HybridExecutor")
        book.run("executor = HybridExecutor(1, concurrency=10)\nexecutor.submit(int).result()")
        cell = (
            "def nap(n):\n    time.sleep(600)\n"
            "try:\n    print('waiting', flush=True)\n    list(executor.map(nap, range(200)))\n"
            "except KeyboardInterrupt:\n    print('interrupted')"
        )
        assert book.run(cell, interrupt_at="waiting\n") == "waiting\ninterrupted\n"
        assert book.run("print(executor.submit(int, '7').result(timeout=50))") == "7\n"
        book.run("futures = [executor.submit(nap, n) for n in range(50)]")
        assert book.run("executor.cancel_all(); print(futures[49].cancelled())") == "True\n"
        assert book.run("print(executor.submit(int, '8').result(timeout=50))") == "8\n"


@pytest.mark.slow
def test_a_cell_that_is_interrupted_leaves_the_executor_of_use() -> None:
    with notebook() as book:
        book.run("import time\nfrom hybridexec import HybridExecutor")
        book.run("executor = HybridExecutor(1)\nexecutor.submit(int).result()")
        cell = (
            "future = executor.submit(time.sleep, 600)\n"
            "try:\n    print('waiting', flush=True)\n    future.result()\n"
            "except KeyboardInterrupt:\n    print('interrupted', future.cancel())"
        )
        assert book.run(cell, interrupt_at="waiting\n") == "waiting\ninterrupted True\n"
        assert book.run("print(executor.submit(int, '7').result())") == "7\n"


@pytest.mark.slow
def test_progress_is_a_bar_in_a_notebook() -> None:
    with notebook() as book:
        book.run("import time\nfrom hybridexec import HybridExecutor")
        book.run("def nap(n):\n    time.sleep(0.02)\n    return n\nexecutor = HybridExecutor(2)")
        cell = "print(sum(executor.map(nap, (n for n in range(300)), progress=True)))"
        assert book.run(cell) == "44850\n"
        shown = [m for m in book.messages if m["msg_type"] == "display_data"]
        assert [
            "application/vnd.jupyter.widget-view+json" in m["content"]["data"] for m in shown
        ] == [True]
        states = [
            m["content"]["data"]["state"]
            for m in book.messages
            if m["msg_type"].startswith("comm_") and "state" in m["content"]["data"]
        ]
        bars = [state for state in states if "max" in state or "value" in state]
        assert any(state.get("max") == 300 for state in bars)
        assert any(state.get("value") == 300 for state in bars)
        assert any("300/300" in str(state.get("value")) for state in bars)
        assert any(state.get("bar_style") == "success" for state in states)
        book.messages.clear()
        book.run("list(executor.map(nap, range(300), progress=print))")
        prints = [m for m in book.messages if m["msg_type"] == "stream"]
        assert "300 of 300 done" in prints[-1]["content"]["text"]


class Opening(list[dict[str, Any]]):
    """Messages; opens a gate when a text is shown."""

    def __init__(self, text: str, gate: Path) -> None:
        self._text, self._gate = text, gate

    def append(self, message: dict[str, Any]) -> None:
        super().append(message)
        if self._text in str(message["content"]):
            self._gate.touch()


@pytest.mark.slow
def test_a_cell_shows_the_executor_live(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with notebook() as book:
        book.run(
            "import os, time\nfrom hybridexec import HybridExecutor\nexecutor = HybridExecutor(1)"
        )
        book.run(
            f"def wait(n):\n    while not os.path.exists({str(gate)!r}):\n        time.sleep(0.01)"
        )
        cell = "with executor.live():\n    list(executor.map(wait, range(3)))\n    print('printed')"
        book.messages = Opening("0 finished, 0 failed; 3 running, 0 queued", gate)
        assert book.run(cell) == "printed\n"
        shown = [m["content"]["data"] for m in book.messages if "display" in m["msg_type"]]
        first, *_, last = [data["text/html"] for data in shown]
        assert "HybridExecutor in process" in first
        assert "3 finished, 0 failed; 0 running, 0 queued" in last
        assert book.run("import threading; print(threading.active_count())") == book.run(
            "with executor.live():\n    pass\nprint(threading.active_count())"
        )
