"""A worker of one executor is the parent of another: ``nested.py METHOD``."""

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from hybridexec import HybridExecutor


class Marked:
    def __init__(self, value):
        self.value = value


def double(number):
    return 2 * number


def mark(value):
    time.sleep(0.01)
    return Marked(value), os.getpid()


def in_hybrid(method, number):
    with HybridExecutor(1, multiprocessing.get_context(method)) as executor:
        marked, pid = executor.submit(mark, number).result()
        doubled = list(executor.map(double, range(number, number + 3)))
    return marked, pid, os.getpid(), doubled


def in_processes(method, number):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, context) as executor:
        marked, pid = executor.submit(mark, number).result()
        doubled = list(executor.map(double, range(number, number + 3)))
    return marked, pid, os.getpid(), doubled


def in_threads(method, number):
    with ThreadPoolExecutor(2) as executor:
        marked, _ = executor.submit(mark, number).result()
        doubled = list(executor.map(double, range(number, number + 3)))
    return marked, -1, os.getpid(), doubled


def deep(method, levels):
    if not levels:
        return [os.getpid()]
    with HybridExecutor(1, multiprocessing.get_context(method)) as executor:
        return [os.getpid(), *executor.submit(deep, method, levels - 1).result()]


def show(name, futures):
    good = 0
    for number, future in enumerate(futures):
        marked, inner, outer, doubled = future.result()
        assert type(marked) is Marked
        assert len({inner, outer, os.getpid()}) == 3
        good += (marked.value, doubled) == (number, [2 * n for n in range(number, number + 3)])
    print(name, good)


def main():
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    with HybridExecutor(1, context) as executor:
        for name, call in (
            ("hybrid in hybrid:", in_hybrid),
            ("processes in hybrid:", in_processes),
            ("threads in hybrid:", in_threads),
        ):
            show(name, [executor.submit(call, method, number) for number in range(2)])
        print("three deep:", len(set(executor.submit(deep, method, 2).result())))
    with ProcessPoolExecutor(1, context) as executor:
        show("hybrid in processes:", [executor.submit(in_hybrid, method, n) for n in range(2)])


if __name__ == "__main__":
    main()
