"""The parent is itself a multiprocessing.Process: ``process_parent.py METHOD``."""

import multiprocessing
import os
import sys

from hybridexec import HybridExecutor


class Marked:
    def __init__(self, pid):
        self.pid = pid


def mark():
    return Marked(os.getpid())


def work(method, results):
    with HybridExecutor(1, multiprocessing.get_context(method)) as executor:
        marked = executor.submit(mark).result()
        results.put((type(marked) is Marked, marked.pid != os.getpid()))


def work_and_leave(method, results):
    executor = HybridExecutor(1, multiprocessing.get_context(method))
    executor.submit(mark).add_done_callback(lambda done: results.put(type(done.result()) is Marked))
    globals()["kept"] = executor


def main():
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    for target in (work, work_and_leave):
        process = context.Process(target=target, args=(method, results))
        process.start()
        print(target.__name__, results.get())
        process.join()
        print("exit code:", process.exitcode)


if __name__ == "__main__":
    main()
