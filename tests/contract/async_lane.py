"""Executors whose workers run coroutines, and async functions for them to run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import make_executor
from .helpers import Gate
from .lanes import start_in

LOOPS: dict[str, Callable[[], object] | None] = {
    "asyncio": asyncio.SelectorEventLoop,
    "default": None,  # uvloop's, where that is installed
}


@pytest.fixture(scope="module", params=["asyncio", pytest.param("default", marks=pytest.mark.slow)])
def tasks(request: pytest.FixtureRequest) -> Iterator[HybridExecutor]:
    """An executor with one worker, in the async lane, for tests that leave it as they found it."""
    # On a busy machine, a worker may hear late that a call's time is up.
    arguments = {"loop_factory": LOOPS[request.param], "timeout_grace": 10.0}
    with make_executor(None, max_workers=1, concurrency=600, **arguments) as made:
        yield start_in("async", made)


def run(function: Callable[..., Any], *args: Any) -> Any:
    """A plain function whose result is awaited where it runs."""
    return function(*args)


async def wait_at(gate: Gate, name: object) -> object:
    """Arrive at a gate, and wait as a coroutine does."""
    gate.arrive(name)
    while not gate.is_open():  # noqa: ASYNC110  # it is a file that is waited for
        await asyncio.sleep(0.005)
    return name


async def clean_up(gate: Gate, name: object) -> object:
    """The same; whoever is stopped says so."""
    try:
        return await wait_at(gate, name)
    except asyncio.CancelledError:
        gate.arrive(f"{name}-stopped")
        raise


async def hog_at(gate: Gate, name: object) -> object:
    """Arrive, and keep the loop until the gate is open."""
    return gate.hog(name)


async def double(value: int) -> int:
    return 2 * value


async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def within(seconds: float, awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
