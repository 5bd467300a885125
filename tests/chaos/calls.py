"""What the calls of a storm do, and what must come of each.

Imported by the workers, so it imports little. Every call that starts writes its number and its
worker's pid to one file, in one write: that is how the parent counts runs.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import inspect
import os
import random
import signal
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hybridexec import CallTimeout, RetryAfter, WorkerLost
from hybridexec.options import Lane

_folder = Path()

#: Makes a worker write the stacks of its threads to a file, when a storm has failed.
DUMP_SIGNAL = signal.SIGUSR2


def arm(folder: str) -> None:
    """The initializer: where runs are noted and stacks dumped."""
    global _folder
    _folder = Path(folder)
    faulthandler.register(DUMP_SIGNAL, file=(_folder / f"stacks-{os.getpid()}").open("w"))


def note(call: int) -> None:
    fd = os.open(_folder / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d %d\n" % (call, os.getpid()))
    os.close(fd)


def runs_noted(folder: Path) -> dict[int, list[int]]:
    """The pids of the workers that started each call."""
    noted: dict[int, list[int]] = {}
    if (folder / "runs").exists():
        for line in (folder / "runs").read_text().splitlines():
            call, pid = map(int, line.split())
            noted.setdefault(call, []).append(pid)
    return noted


# -- payloads that go wrong -----------------------------------------------------------------------


class Spoiled(Exception):
    """What poison raises, wherever it does."""


class Poison:
    """Raises when it is pickled."""

    def __reduce__(self) -> Any:
        raise Spoiled("this does not pickle")


class Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise Spoiled("this does not unpickle")


class Unrebuildable(Exception):
    """Pickles, and cannot be rebuilt from that."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(one)


# -- what workers run -----------------------------------------------------------------------------


def quick(call: int, _: object = None) -> int:
    note(call)
    return call * 7


def nap(call: int, seconds: float) -> int:
    note(call)
    time.sleep(seconds)
    return call * 7


def burn(call: int, seconds: float) -> int:
    note(call)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return call * 7


def stubborn(call: int, seconds: float) -> int:
    """Swallows whatever stops it, once."""
    note(call)
    try:
        time.sleep(seconds)
    except BaseException:
        pass
    return call * 7


def nap_in_slices(call: int, seconds: float) -> int:
    """What a thread can be stopped in."""
    note(call)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.01, seconds))
    return call * 7


async def nap_in_task(call: int, seconds: float) -> int:
    note(call)
    await asyncio.sleep(seconds)
    return call * 7


async def stubborn_in_task(call: int, seconds: float) -> int:
    note(call)
    try:
        await asyncio.sleep(seconds)
    except BaseException:
        pass
    return call * 7


def flaky(call: int, error: Exception) -> int:
    """Fails, but the second time it is run."""
    note(call)
    try:
        (_folder / f"flaky-{call}").touch(exist_ok=False)
    except FileExistsError:
        return call * 7
    raise error


def swallow(call: int, payload: bytes) -> int:
    note(call)
    return zlib.crc32(payload)


def produce(call: int, size: int) -> bytes:
    note(call)
    return bytes([call % 251]) * size


def fail(call: int) -> None:
    note(call)
    raise ValueError(call)


def fail_oddly(call: int) -> None:
    note(call)
    raise Unrebuildable(call, call)


def leave(call: int) -> None:
    note(call)
    sys.exit(call)


def give_lock(call: int) -> Any:
    note(call)
    return threading.Lock()


def give_bomb(call: int) -> Any:
    note(call)
    return Bomb()


def die(call: int, how: str) -> None:
    note(call)
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        faulthandler.disable()
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


#: What an item of a stream does, by its number.
STREAM_KINDS = 23


def mixed(call: int) -> Any:
    match call % STREAM_KINDS:
        case 0:
            return fail(call)
        case 1:
            return leave(call)
        case 2:
            return give_lock(call)
        case 3:
            return give_bomb(call)
        case 4 | 5 | 6:
            return nap(call, 0.02)
        case _:
            return quick(call)


def items(call: int, numbers: range, seconds: float) -> Iterator[int]:
    note(call)
    for number in numbers:
        if seconds:
            time.sleep(seconds)
        yield number * 7


async def items_in_task(call: int, numbers: range, seconds: float) -> AsyncIterator[int]:
    note(call)
    for number in numbers:
        if seconds:
            await asyncio.sleep(seconds)
        yield number * 7


@dataclass(frozen=True)
class InTask:
    """The same function as a coroutine."""

    fn: Callable[..., Any]

    async def __call__(self, call: int, *args: Any) -> Any:
        await asyncio.sleep(0)
        value = self.fn(call, *args)
        return await value if inspect.isawaitable(value) else value


#: What waits does it as its lane has it.
_IN_LANE: dict[Lane, dict[Callable[..., Any], Callable[..., Any]]] = {
    "greenlet": {},
    "async": {nap: nap_in_task, stubborn: stubborn_in_task, items: items_in_task},
    "thread": {nap: nap_in_slices},
}


def in_lane(fn: Callable[..., Any], lane: Lane) -> Callable[..., Any]:
    """What does the same as ``fn`` there."""
    return _IN_LANE[lane].get(fn, fn)


# -- what must come of them -----------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One call: what it does, and its one right end."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    value: Any = None
    error: type[BaseException] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    #: How often it may run, unless it was lost.
    runs: int = 1
    #: Ends its worker.
    fatal: bool = False

    def is_right(self, value: Any, error: BaseException | None) -> bool:
        """Whether this end is the one that was planned."""
        if self.error is not None:
            return type(error) is self.error
        return error is None and bool(value == self.value)


def plan_item(call: int) -> Plan:
    """What ``mixed(call)`` must give."""
    errors = {0: ValueError, 1: SystemExit, 2: TypeError, 3: Spoiled}
    error = errors.get(call % STREAM_KINDS)
    return Plan(mixed, value=call * 7, error=error)


def plan(rng: random.Random, call: int, lane: Lane) -> Plan:
    """A random call for a lane. ``call`` is its first argument, and is not in ``args``."""
    (make,) = rng.choices(list(_MAKERS), list(_MAKERS.values()))
    planned = make(rng, call)
    fn = in_lane(planned.fn, lane)
    if lane == "async" and rng.random() < 0.5:
        return replace(planned, fn=InTask(fn))  # which goes there by itself
    return replace(planned, fn=fn, options=planned.options | {"lane": lane})


def _plan_produce(rng: random.Random, call: int) -> Plan:
    size = rng.choice([100_000, 1_000_000, 20_000_000])
    return Plan(produce, (size,), bytes([call % 251]) * size)


def _plan_swallow(rng: random.Random, call: int) -> Plan:
    payload = bytes([call % 251]) * rng.choice([100_000, 1_000_000, 20_000_000])
    return Plan(swallow, (payload,), zlib.crc32(payload))


def _plan_late(rng: random.Random, call: int) -> Plan:
    fn = rng.choice([nap, nap, burn])
    timeout = {"timeout": rng.uniform(0.001, 0.1)}
    return Plan(fn, (20.0,), error=CallTimeout, options=timeout)


#: After these a call is tried again.
RETRIED = (ValueError, RetryAfter)


def _plan_retry(rng: random.Random, call: int) -> Plan:
    error = rng.choice([ValueError(call), RetryAfter(0.05)])
    options = {"retries": 1, "retry_on": RETRIED, "backoff": 0.01}
    return Plan(flaky, (error,), call * 7, options=options, runs=2)


def _plan_end(rng: random.Random, call: int) -> Plan:
    how = rng.choice(["exit", "kill", "segfault"])
    return Plan(die, (how,), error=WorkerLost, fatal=True)


#: How each kind of call is planned, and how often it comes.
_MAKERS: dict[Callable[[random.Random, int], Plan], float] = {
    lambda rng, call: Plan(quick, value=call * 7): 30,
    lambda rng, call: Plan(nap, (rng.uniform(0, 0.1),), call * 7): 30,
    lambda rng, call: Plan(burn, (rng.uniform(0, 0.02),), call * 7): 5,
    lambda rng, call: Plan(stubborn, (rng.uniform(0, 0.2),), call * 7): 3,
    _plan_late: 4,
    _plan_retry: 4,
    lambda rng, call: Plan(fail, error=ValueError): 4,
    lambda rng, call: Plan(fail_oddly, error=Unrebuildable): 3,
    lambda rng, call: Plan(leave, error=SystemExit): 3,
    lambda rng, call: Plan(give_lock, error=TypeError): 3,
    lambda rng, call: Plan(give_bomb, error=Spoiled): 3,
    lambda rng, call: Plan(quick, (Poison(),), error=Spoiled): 3,
    lambda rng, call: Plan(quick, (Bomb(),), error=Spoiled): 3,
    _plan_produce: 1.5,
    _plan_swallow: 1.5,
    _plan_end: 0.7,
}
