"""A parent that gevent has patched: ``gevent_parent.py METHOD SCENARIO``."""

# ruff: noqa: E402 - patched before anything else is imported

from gevent import monkey

monkey.patch_all()

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import time

import gevent

from hybridexec import HybridExecutor, Pool, as_completed

MEGABYTE = 2**20


def identity(value):
    return value


def double(number):
    return 2 * number


def fail(text):
    raise ValueError(text)


def wait_and_return(seconds, value):
    time.sleep(seconds)
    return value


def waited_for_a_processor():
    """Seconds for which this thread could have run and others did; 0 where no one tells."""
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Heart:
    """A greenlet that should run every 5 ms, and the longest it had to wait for its own process: on
    a busy machine, a processor has to be waited for, too."""

    def __enter__(self):
        self.worst = 0.0
        self._greenlet = gevent.spawn(self._beat)
        gevent.sleep(0)
        return self

    def __exit__(self, *error):
        gevent.sleep(0.01)
        self._greenlet.kill()

    def _beat(self):
        last = time.monotonic() - waited_for_a_processor()
        while True:
            gevent.sleep(0.005)
            now = time.monotonic() - waited_for_a_processor()
            self.worst = max(self.worst, now - last)
            last = now


def use(context):
    with Heart() as heart:
        with HybridExecutor(2, context) as executor:
            print("submit:", executor.submit(double, 21).result())
            print("map:", list(executor.map(double, range(5))))
            error = executor.submit(fail, "no").exception()
            print("exception:", repr(error))
            futures = [executor.submit(wait_and_return, 0.1, n) for n in range(100)]
            done, waiting = concurrent.futures.wait(futures)
            print("wait:", len(done), len(waiting))
            futures = [executor.submit(double, n) for n in range(100)]
            results = sorted(f.result() for f in concurrent.futures.as_completed(futures))
            print("as_completed:", results == [2 * n for n in range(100)])
            print("map_unordered:", sorted(executor.map_unordered(double, range(5))))
            future = executor.submit(wait_and_return, 600, None)
            while not future.running():
                gevent.sleep(0.01)
            print("cancel:", future.cancel(), future.cancelled())
            slow = executor.submit(wait_and_return, 600, None)
            try:
                slow.result(timeout=0.05)
            except TimeoutError:
                print("result(timeout): TimeoutError")
            slow.cancel()
            jobs = [
                gevent.spawn(lambda n=n: executor.submit(double, n).result()) for n in range(50)
            ]
            gevent.joinall(jobs)
            print("from 50 greenlets:", [job.value for job in jobs] == [2 * n for n in range(50)])
            last = executor.submit(wait_and_return, 0.5, "finished")
        print("shutdown waited:", last.result(timeout=0))
    print("worst gap:", heart.worst)


def wait_for_file(path, value):
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def progress(context):
    with tempfile.TemporaryDirectory() as folder:
        progress_in(folder, context)


def progress_in(folder, context):
    shown = []
    first, second = os.path.join(folder, "1"), os.path.join(folder, "2")

    def show_and_make(path):
        def show(progress):
            shown.append(progress)
            open(path, "w").close()  # calls end when something has been shown

        return show

    with Heart() as heart, HybridExecutor(2, context) as executor:
        waits = [executor.submit(wait_for_file, first, n) for n in range(20)]
        shows = show_and_make(first)
        print("as_completed:", len(list(as_completed(waits, progress=shows))))
        print("moved:", len(shown) > 1, shown[-1].done, shown[-1].total)
        shown.clear()
        shows = show_and_make(second)
        results = executor.map(wait_for_file, [second] * 20, range(20), progress=shows)
        print("map:", sum(results), len(shown) > 1, shown[-1].done, shown[-1].total)
        shown.clear()
        for _ in executor.map_unordered(double, range(10**6), progress=shown.append):
            break
        print("break:", shown[-1].done >= 1, shown[-1].eta)
        executor.map(wait_and_return, [0.3] * 20, range(20), progress=shown.append)
    print("not iterated:", shown[-1].done)
    print("worst gap:", heart.worst)


def pool(context):
    told = []
    with Heart() as heart, Pool(2, context=context, concurrency=10) as pool:
        print("apply:", pool.apply(double, (21,)))
        print("map:", pool.map(double, range(5)))
        print("imap:", list(pool.imap(double, (n for n in range(5)))))
        result = pool.apply_async(wait_and_return, (0.2, 7), callback=told.append)
        results = pool.map_async(fail, ["no", "neither"], callback=told.append)
        print("errors:", type(_error(results.get)).__name__)
        print("callbacks:", result.get(), told)
        late = pool.apply_async(wait_and_return, (600, None))
        print("timeout:", type(_error(lambda: late.get(0.05))).__name__)
        print("busy, idle:", pool.busy, pool.idle)
    print("terminated:", type(_error(late.get)).__name__)
    pool.join()
    print("worst gap:", heart.worst)


def _error(do):
    try:
        do()
    except Exception as error:
        return error


def count(numbers, pause=0.0):
    for n in range(numbers):
        time.sleep(pause)
        yield n


def total(stream):
    return sum(stream)


def what_ends(stream):
    try:
        return list(stream)
    except concurrent.futures.CancelledError:
        return "CancelledError"


async def add_up(stream):
    return sum([n async for n in stream])


async def add_all_up(executor):
    streams = [executor.stream(count, 200, 0.001) for _ in range(5)]
    return await asyncio.gather(*map(add_up, streams))


def streams(context):
    with Heart() as heart:
        with HybridExecutor(2, context) as executor:
            jobs = [gevent.spawn(total, executor.stream(count, 300)) for _ in range(20)]
            jobs += [gevent.spawn(total, executor.stream(count, 20, 0.01)) for _ in range(20)]
            gevent.joinall(jobs)
            print("from 40 greenlets:", sorted({job.value for job in jobs}))
            print("with asyncio:", set(asyncio.run(add_all_up(executor))))
            stream = executor.stream(count, 10**9)
            waiting = gevent.spawn(what_ends, executor.stream(count, 2, 600))
            print("broken off:", next(stream))
            stream.close()
            gevent.sleep(0.05)
            executor.cancel_all()
            print("cancelled:", waiting.get())
            left = executor.stream(count, 10**9)
        print("left:", what_ends(left))
    print("worst gap:", heart.worst)


def megabytes(context):
    payloads = [bytes([n]) * MEGABYTE for n in range(20)]
    gaps = []
    with HybridExecutor(2, context) as executor:
        for _ in range(3):
            with Heart() as heart:
                futures = [executor.submit(identity, payload) for payload in payloads]
                assert [future.result() for future in futures] == payloads
                assert list(executor.map(identity, payloads)) == payloads
            gaps.append(heart.worst)
    print(*gaps)


def collect(context):
    executor = HybridExecutor(2, context)
    pids = [executor.submit(os.getpid).result()]
    with Heart() as heart:
        del executor
        gc.collect()
        deadline = time.monotonic() + 20
        while any(map(lives, pids)) and time.monotonic() < deadline:
            gevent.sleep(0.02)
    print("workers left:", sum(map(lives, pids)))
    print("worst gap:", heart.worst)


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def leave(context):
    executor = HybridExecutor(2, context)
    future = executor.submit(wait_and_return, 0.3, "finished")
    future.add_done_callback(lambda done: print("at exit:", done.result(), flush=True))
    globals()["kept"] = executor


def loop(context):
    async def work():
        running = asyncio.get_running_loop()
        running.slow_callback_duration = 60  # its debug mode would log it
        with HybridExecutor(1, context) as executor:
            calls = [running.run_in_executor(executor, double, n) for n in range(100)]
            print("asyncio:", await asyncio.gather(*calls) == [2 * n for n in range(100)])
            awaited = [executor.asubmit(double, n) for n in range(100)]
            print("asubmit:", await asyncio.gather(*awaited) == [2 * n for n in range(100)])
            print("amap:", [n async for n in executor.amap(double, range(5))])
            # From here on, nothing but the call's end wakes the loop.
            task = asyncio.create_task(executor.asubmit(time.sleep, 600))
            gevent.spawn_later(0.1, executor.cancel_all)
            try:
                await task
            except asyncio.CancelledError:
                print("asubmit cancelled by another greenlet")
            call = executor.submit(time.sleep, 600)
            gevent.spawn_later(0.1, call.cancel)
            try:
                await asyncio.wrap_future(call)
            except asyncio.CancelledError:
                print("cancelled by another greenlet")
            slow = executor.submit(time.sleep, 0.1)
            seen = []
            slow.add_done_callback(lambda _: seen.append(running_loop()))
            slow.add_done_callback(lambda _: gevent.sleep(0.2))
            slow.add_done_callback(lambda _: seen.append(running_loop()))
            await asyncio.wrap_future(slow)
            while len(seen) < 2:
                await asyncio.sleep(0.01)
                assert running_loop() is running
            print("in other callbacks:", seen)
            mine = executor.submit(time.sleep, 600)
            mine.add_done_callback(lambda _: print("in my own:", running_loop() is running))
            mine.cancel()
        async with HybridExecutor(1, context) as executor:
            print("async with:", await executor.asubmit(double, 1))

    asyncio.run(work(), debug=sys.argv[3:] == ["debug"])


def running_loop():
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def kill_server(context):
    with HybridExecutor(1, context) as executor:
        for _ in range(3):
            worker = executor.submit(os.getpid).result()
            server = executor._engine._launcher._lanes["greenlet"].server._pid
            os.kill(server, signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            while lives(worker):
                gevent.sleep(0.01)
            print("after its end:", executor.submit(double, 21).result(timeout=60))


def refuse(context):
    executor = HybridExecutor(1, context)
    executor.shutdown()
    try:
        executor.submit(double, 21)
    except RuntimeError as error:
        print(error)
    print("nothing left to wait for:", gevent.get_hub().join(timeout=10))


def refuse_fork(context):
    try:
        HybridExecutor(2, multiprocessing.get_context("fork"))
    except ValueError as error:
        print(error)


if __name__ == "__main__":
    globals()[sys.argv[2]](multiprocessing.get_context(sys.argv[1]))
