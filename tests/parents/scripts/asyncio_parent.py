"""An asyncio parent."""

import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

from hybridexec import HybridExecutor


def double(number):
    return 2 * number


def wait_for_ever(mark):
    try:
        Path(mark, "started").touch()
        time.sleep(600)
    finally:
        Path(mark, "stopped").touch()


def sleep_until(path):
    while not path.exists():
        time.sleep(0.01)


def fail():
    raise LookupError("not there")


async def numbers(count):
    for number in range(count):
        yield number


async def until(path):
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


async def stop_by_timeout(executor, folder):
    loop = asyncio.get_running_loop()
    pid = await loop.run_in_executor(executor, os.getpid)
    call = loop.run_in_executor(executor, wait_for_ever, str(folder))
    await until(folder / "started")
    try:
        await asyncio.wait_for(call, timeout=0.1)
    except TimeoutError:
        print("wait_for: TimeoutError")
    await until(folder / "stopped")
    # The only slot is free again, in the same worker.
    print("slot is free:", await loop.run_in_executor(executor, os.getpid) == pid)


async def stop_by_cancel(executor, folder):
    call = asyncio.wrap_future(executor.submit(wait_for_ever, str(folder)))
    await until(folder / "started")
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        print("cancel: CancelledError")
    await until(folder / "stopped")


async def main():
    context = multiprocessing.get_context(sys.argv[1])
    loop = asyncio.get_running_loop()
    with HybridExecutor(2, context) as executor:
        print("run_in_executor:", await loop.run_in_executor(executor, double, 21))
        future = executor.submit(double, 4)
        print("wrap_future:", isinstance(future, Future), await asyncio.wrap_future(future))
        calls = (loop.run_in_executor(executor, double, number) for number in range(1000))
        results = await asyncio.gather(*calls)
        print("gather of 1000:", results == [2 * number for number in range(1000)])
        mixed = await asyncio.gather(
            loop.run_in_executor(executor, fail),
            loop.run_in_executor(executor, double, 1),
            return_exceptions=True,
        )
        print("exception:", mixed)
        with tempfile.TemporaryDirectory() as folder:
            go = Path(folder, "go")
            sleepers = [loop.run_in_executor(executor, sleep_until, go) for _ in range(20)]
            ticks = 0
            while not all(call.done() for call in sleepers):
                await asyncio.sleep(0.01)
                ticks += 1
                if ticks == 4:
                    go.touch()  # noqa: ASYNC240
        print("the loop goes on:", ticks > 3)
        calls = (executor.asubmit(double, number) for number in range(1000))
        print("asubmit:", await asyncio.gather(*calls) == results)
        doubled = [value async for value in executor.amap(double, numbers(1000))]
        print("amap:", doubled == results)
    async with HybridExecutor(1, context) as executor:
        print("async with:", await executor.asubmit(double, 1))
    with HybridExecutor(1, context, concurrency=1) as executor:
        for stop in (stop_by_timeout, stop_by_cancel):
            with tempfile.TemporaryDirectory() as folder:
                await stop(executor, Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
