"""Interpreters whose ``__main__`` no worker can import: what it defines travels by value."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jupyter_client import KernelManager
from parent_runs import (
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


def session(method: str) -> str:
    return SESSION.replace("@METHOD@", method)


@pytest.mark.parametrize("arguments", [("-",), ()], ids=["dash", "pipe"])
@pytest.mark.parametrize("method", METHODS)
def test_a_program_on_standard_input(method: str, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, stdin=session(method)) == PRINTED


@pytest.mark.parametrize("method", METHODS)
def test_a_program_on_the_command_line(method: str) -> None:
    assert run("-c", session(method)) == PRINTED


@pytest.mark.parametrize("method", METHODS)
def test_an_interactive_interpreter_fed_by_a_pipe(method: str) -> None:
    done = run_to_end("-i", "-q", stdin=session(method))
    assert done.returncode == 0
    assert done.stdout.splitlines() == PRINTED
    assert "Error" not in done.stderr


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
        self._interrupt = manager.interrupt_kernel
        self._client = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=DEADLINE)

    def run(self, cell: str, interrupt_at: str | None = None) -> str:
        """Run a cell, perhaps interrupt it at what it prints; return that."""
        printed: list[str] = []

        def collect(message: dict[str, Any]) -> None:
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
