"""The ways in which a call may begin something, for tests of what a stop reaches."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import gevent
import gevent.pool

from .helpers import Gate

#: What calls would take if nobody stopped them.
LONG = 120


shared = ThreadPoolExecutor(4)


#: Far longer than it takes to stop a call: a worker is killed only if it is not stopped at all.
GRACE = 20.0


def work(gate: Gate, name: object) -> None:
    """What a call has others do; says that it was stopped."""
    try:
        gate.arrive(f"begins-{name}")  # from then on, anything may be raised anywhere
        time.sleep(LONG)
    except BaseException:
        gate.arrive(f"stopped-{name}")
        raise


def burn(gate: Gate, name: object) -> None:
    try:
        gate.arrive(f"begins-{name}")
        spin()  # of its own: a loop's last jump is outside of the ``try`` on Python 3.13
    except BaseException:
        gate.arrive(f"stopped-{name}")
        raise


def spin() -> None:
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        pass


def in_a_with_block(gate: Gate, do: Any = work) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(4):  # two wait for a thread
            future = pool.submit(do, gate, number)
        future.result()


def in_map(gate: Gate, do: Any = work) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(do, [gate] * 2, range(2)))


def in_a_shared_pool(gate: Gate, do: Any = work) -> None:
    shared.submit(do, gate, 0).result()


def in_asyncio(gate: Gate, do: Any = work) -> None:
    asyncio.run(asyncio.to_thread(do, gate, 0))


def in_a_thread(gate: Gate, do: Any = work) -> None:
    thread = threading.Thread(target=do, args=(gate, 0))
    thread.start()
    try:
        time.sleep(LONG)
    finally:
        thread.join()


def in_a_joined_thread(gate: Gate, do: Any = work) -> None:
    thread = threading.Thread(target=do, args=(gate, 0))
    thread.start()
    thread.join()


def in_greenlets(gate: Gate, do: Any = work) -> None:
    gevent.joinall([gevent.spawn(do, gate, number) for number in range(2)])


def in_a_greenlet(gate: Gate, do: Any = work) -> None:
    greenlet = gevent.spawn(do, gate, 0)
    try:
        time.sleep(LONG)
    finally:
        greenlet.get()


def in_a_gevent_pool(gate: Gate, do: Any = work) -> None:
    pool = gevent.pool.Pool(2)
    for number in range(2):
        pool.spawn(do, gate, number)
    pool.join()


def in_a_gevent_map(gate: Gate, do: Any = work) -> None:
    gevent.pool.Pool(2).map(lambda number: do(gate, number), range(2))


def in_a_thread_pool(gate: Gate, do: Any = work) -> None:
    pool = ThreadPool(2)
    try:
        pool.starmap(do, [(gate, 0), (gate, 1)])
    finally:
        pool.close()
        pool.join()


def nested(gate: Gate, do: Any = work) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_a_with_block, gate, do)


def nested_otherwise(gate: Gate, do: Any = work) -> None:
    gevent.spawn(in_a_thread, gate, do).join()


def submitted_by_work(gate: Gate, do: Any = work) -> None:
    with ThreadPoolExecutor(1) as outer, ThreadPoolExecutor(1) as inner:
        outer.submit(inner.submit, do, gate, 0)
        time.sleep(LONG)


def beside(gate: Gate, do: Any = work) -> None:
    threading.Thread(target=do, args=(gate, "thread")).start()
    gevent.spawn(do, gate, "greenlet")
    shared.submit(do, gate, "shared")
    time.sleep(LONG)


def for_a_queue(gate: Gate, do: Any = work) -> None:
    answers: queue.Queue[int] = queue.Queue()
    for number in range(2):
        threading.Thread(target=answer, args=(gate, do, number, answers)).start()
    try:
        answers.get()
    finally:
        answers.get()
        answers.get()


def answer(gate: Gate, do: Any, number: int, answers: queue.Queue[int]) -> None:
    try:
        do(gate, number)
    finally:
        answers.put(number)


def in_a_daemon(gate: Gate, do: Any = work) -> None:
    thread = threading.Thread(target=do, args=(gate, 0), daemon=True)
    thread.start()
    thread.join()


def for_a_daemon(gate: Gate, do: Any = work) -> None:
    answers: queue.Queue[int] = queue.Queue()
    threading.Thread(target=answer, args=(gate, do, 0, answers), daemon=True).start()
    try:
        time.sleep(LONG)
    finally:
        answers.get()


def in_imap(gate: Gate, do: Any = work) -> None:
    list(gevent.pool.Pool(2).imap_unordered(lambda number: do(gate, number), range(2)))


WAYS = [
    in_a_with_block,
    in_map,
    in_a_shared_pool,
    in_asyncio,
    in_a_thread,
    in_a_joined_thread,
    in_greenlets,
    in_a_greenlet,
    in_a_gevent_pool,
    in_a_gevent_map,
    in_a_thread_pool,
    nested,
    nested_otherwise,
    submitted_by_work,
    beside,
    for_a_queue,
    in_a_daemon,
    for_a_daemon,
    in_imap,
]


def stopped(gate: Gate) -> list[str]:
    return [name.split("-")[1] for name in gate.arrived if name.startswith("stopped-")]
