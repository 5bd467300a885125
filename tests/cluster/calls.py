"""What is called in the tests' workers; nodes import it. And how tests see that it was."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hybridexec

from .processes import PATIENCE, wait_until


def double(number: int) -> int:
    return 2 * number


def swap(mapping: dict[str, int]) -> dict[int, str]:
    return {value: key for key, value in mapping.items()}


def fail(number: int) -> None:
    raise ValueError(f"{number} is bad")


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def where(_: object = None) -> tuple[str, int]:
    """The node, by the mark of its processes, and the worker."""
    return os.environ["HYBRIDEXEC_TEST_MARK"].rpartition("/")[2], os.getpid()


def nap_where(seconds: float) -> tuple[str, int]:
    time.sleep(seconds)
    return where()


def leave(code: int) -> None:
    os._exit(code)


async def later(number: int) -> int:
    import asyncio

    await asyncio.sleep(0.01)
    return number + 1


def count_to(number: int) -> Iterator[int]:
    for each in range(number):
        time.sleep(0.002)
        yield each


def size(data: bytes) -> int:
    return len(data)


def bytes_of(count: int) -> bytes:
    return b"x" * count


class Marks:
    """Files that tell which calls have started, how often, and where; and a gate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __repr__(self) -> str:
        return "marks"

    def open(self) -> None:
        """Let those go on that wait."""
        (self.folder / "open").touch()

    @property
    def starts(self) -> Counter[str]:
        """How often each call has started."""
        return Counter(name.split("~")[0] for name, *_ in self._found())

    @property
    def nodes(self) -> Counter[str]:
        """How many calls have started on each node."""
        return Counter(node for _, node, _ in self._found())

    @property
    def pids(self) -> dict[int, str]:
        """The workers, and the node of each."""
        return {int(pid): node for _, node, pid in self._found()}

    def _found(self) -> list[tuple[str, str, str]]:
        split = [each.split("~") for each in os.listdir(self.folder) if each != "open"]
        return [(name, node, pid) for name, node, pid, _ in split]

    def wait_for(self, count: int) -> None:
        """Wait until so many calls have started."""
        wait_until(lambda: len(self._found()) >= count, f"{count} calls have started")

    # -- in workers ---------------------------------------------------------------------------

    def start(self, name: object) -> Any:
        """Tell that this call has started; return its name."""
        node, pid = where()
        (self.folder / f"{name}~{node}~{pid}~{uuid.uuid4().hex}").touch()
        return name

    def wait(self, name: object) -> Any:
        """The same, and return when the gate is open."""
        self.start(name)
        wait_until((self.folder / "open").exists, "the gate opens", 2 * PATIENCE)
        return name

    def nap(self, name: object, seconds: float = 0.05) -> Any:
        """The same, but wait for a while."""
        self.start(name)
        time.sleep(seconds)
        return name


class Counted:
    """A worker's state."""

    def __init__(self) -> None:
        self.calls = 0


def count() -> tuple[int, int]:
    """Which call of its worker this is."""
    state = hybridexec.state()
    state.calls += 1
    return os.getpid(), state.calls


def set_up(value: str) -> None:
    os.environ["HYBRIDEXEC_TEST_SET_UP"] = value


def setting(_: object = None) -> str | None:
    return os.environ.get("HYBRIDEXEC_TEST_SET_UP")
