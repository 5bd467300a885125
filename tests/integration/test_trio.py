"""trio in calls: many loops at once in a worker, each with its nurseries, threads and sockets."""

from __future__ import annotations

import signal
import subprocess
import time
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import trio

from hybridexec import CallTimeout, HybridExecutor

if TYPE_CHECKING:  # workers need not load what it needs
    from loopback_server import Server

PATIENCE = 120
pytestmark = pytest.mark.timeout(300)


def naps(number: int) -> tuple[list[int], int, bool]:
    async def main() -> tuple[list[int], int, bool]:
        order: list[int] = []
        turns = [trio.Event() for _ in range(4)]

        async def nap(place: int) -> None:
            await turns[place].wait()
            await trio.sleep(0.05)
            order.append(place)
            turns[place + 1].set()

        async with trio.open_nursery() as nursery:
            for place in (2, 0, 1):
                nursery.start_soon(nap, place)
            turns[0].set()
        double = await trio.to_thread.run_sync(slowly_double, number)
        with trio.move_on_after(0.05) as scope:
            await trio.sleep_forever()
        return order, double, scope.cancelled_caught

    return trio.run(main)


def slowly_double(number: int) -> int:
    time.sleep(0.05)
    return trio.from_thread.run_sync(lambda: 2 * number)


def talk(number: int) -> tuple[bytes, bytes]:
    async def answer(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data.upper())

    async def main() -> tuple[bytes, bytes]:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, answer, 0)
            port = listeners[0].socket.getsockname()[1]
            async with await trio.open_tcp_stream("localhost", port) as stream:
                await stream.send_all(b"hello %d" % number)
                said = await stream.receive_some(100)
            child = await trio.run_process(["echo", str(number)], capture_stdout=True)
            nursery.cancel_scope.cancel()
        return bytes(said), child.stdout

    return trio.run(main)


def by_anyio(number: int) -> int:
    async def main() -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.05)
        return await anyio.to_thread.run_sync(lambda: number)

    return anyio.run(main, backend="trio")


def hear(number: int) -> int:
    """Each loop hears of its own signals, and none finds those of another."""

    async def main() -> int:
        with trio.open_signal_receiver(signal.SIGALRM) as heard:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return await anext(aiter(heard))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return trio.run(main) - signal.SIGALRM + number


CASES: list[tuple[Any, Any]] = [
    (naps, lambda number: ([0, 1, 2], 2 * number, True)),
    (talk, lambda number: (b"HELLO %d" % number, b"%d\n" % number)),
    (by_anyio, lambda number: number),
    (hear, lambda number: number),
]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "result"), CASES)
def test_many_run_at_once(executor: HybridExecutor, function: Any, result: Any) -> None:
    found = executor.map(function, range(30), timeout=PATIENCE)
    assert list(found) == [result(number) for number in range(30)]


def get(url: str) -> str:
    async def main() -> str:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            return (await client.get(url)).text

    return trio.run(main)


def test_httpx(executor: HybridExecutor, plain_server: Server) -> None:
    """The server answers when all are there."""
    urls = [f"{plain_server.url}/together/30"] * 30
    assert list(executor.map(get, urls, timeout=PATIENCE)) == ["met"] * 30


def forever() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the loop says that it has been left
        trio.run(trio.sleep_forever)


@pytest.mark.slow
def test_a_stopped_loop_leaves_nothing_behind() -> None:
    with HybridExecutor(1) as executor:
        first = executor.submit(forever)
        late = executor.options(timeout=0.3).submit(forever)
        assert isinstance(late.exception(PATIENCE), CallTimeout)
        found = executor.map(naps, range(5), timeout=PATIENCE)
        assert list(found) == [([0, 1, 2], 2 * number, True) for number in range(5)]
        assert executor.submit(subprocess.getoutput, "echo 7").result(PATIENCE) == "7"
        assert first.cancel()
