"""What do items take that a call yields, beside queues and pipes that people write for that?"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from hybridexec import HybridExecutor

from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

MANAGER, PIPE = "Manager().Queue(100)", "Pipe, one process"
ALONE, TOGETHER = "one stream", "500 streams at once"

QUESTION = Question(
    title="Items of a generator",
    method=(
        "A generator in a worker yields numbers, which are summed up here. `executor.stream`, with "
        "its 100 items under way; a call of ProcessPoolExecutor's that puts them into a manager's "
        "queue for 100; a process that sends each through a Pipe of multiprocessing's, and waits "
        "only where that is full. 500 at once come from one worker; the others have a thread in it "
        "for each. Of each in turn one item is fetched."
    ),
    metrics=(
        Metric("rate", "items/s", "items per second", True),
        Metric("delay", "µs", "from a yield to its item, if the consumer waits"),
    ),
    contenders=(OURS, MANAGER, PIPE),
    cases=(ALONE, TOGETHER),
    sizes={
        "full": {"items": 200_000, "slow": 10_000, "delays": 200, "streams": 500},
        "quick": {"items": 100_000, "slow": 5_000, "delays": 100, "streams": 500},
        "smoke": {"items": 1_000, "slow": 100, "delays": 5, "streams": 10},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("rate", 5.0, (MANAGER,), cases=(ALONE,)),),
)

_END: Any = None


def count(numbers: int) -> Iterator[int]:
    """Yield as fast as it goes."""
    yield from range(numbers)


def tell_time(numbers: int) -> Iterator[float]:
    """Yield the time, now and then."""
    for _ in range(numbers):
        time.sleep(0.002)
        yield time.monotonic()


def _side_by_side(do: Callable[..., None], places: list[Any], *arguments: Any) -> None:
    """Do it for each place, in a thread of its own if there are several."""
    if len(places) == 1:
        do(places[0], *arguments)
        return
    threads = [threading.Thread(target=do, args=(place, *arguments)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _put(queue: Any, generator: Any, numbers: int) -> None:
    for item in generator(numbers):
        queue.put(item)
    queue.put(_END)


def _send(pipe: Any, generator: Any, numbers: int) -> None:
    for item in generator(numbers):
        pipe.send(item)
    pipe.send(_END)


#: Gives so many iterators of what the generator yields for that argument.
Streams = Callable[[Any, int, int], list[Iterator[Any]]]


@contextmanager
def _ours() -> Iterator[Streams]:
    with HybridExecutor(max_workers=1, concurrency=500) as executor:
        executor.submit(int).result()
        yield lambda generator, numbers, count: [
            executor.stream(generator, numbers) for _ in range(count)
        ]


@contextmanager
def _through_queues() -> Iterator[Streams]:
    with multiprocessing.Manager() as manager, ProcessPoolExecutor(1) as pool:
        pool.submit(int).result()

        def streams(generator: Any, numbers: int, count: int) -> list[Iterator[Any]]:
            queues = [manager.Queue(100) for _ in range(count)]
            pool.submit(_side_by_side, _put, queues, generator, numbers)
            return [iter(queue.get, _END) for queue in queues]

        yield streams


@contextmanager
def _through_pipes() -> Iterator[Streams]:
    with ExitStack() as stack:

        def streams(generator: Any, numbers: int, count: int) -> list[Iterator[Any]]:
            pipes = [multiprocessing.Pipe(duplex=False) for _ in range(count)]
            ends = [theirs for _, theirs in pipes]
            arguments = _send, ends, generator, numbers
            process = multiprocessing.Process(target=_side_by_side, args=arguments)
            process.start()
            stack.callback(process.join)
            for end in [end for pair in pipes for end in pair]:
                stack.callback(end.close)
            return [iter(ours.recv, _END) for ours, _ in pipes]

        yield streams


_OPENERS = {OURS: _ours, MANAGER: _through_queues, PIPE: _through_pipes}


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Sum up what comes; then see how late it comes."""
    at_once = 1 if case == ALONE else size["streams"]
    items = size["slow" if contender == MANAGER else "items"] // at_once
    with _OPENERS[contender]() as streams:
        assert sum(streams(count, 10, 1)[0]) == 45  # it has imported the function by now
        began = time.perf_counter()
        total = sum(map(sum, zip(*streams(count, items, at_once), strict=True)))
        elapsed = time.perf_counter() - began
        assert total == at_once * (items * (items - 1) // 2)
        (stream,) = streams(tell_time, size["delays"], 1)
        late = sorted(time.monotonic() - told for told in stream)
    return {"rate": at_once * items / elapsed, "delay": late[len(late) // 2] * 1e6}
