"""Threads of a parent make, share and leave executors."""

import multiprocessing
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from hybridexec import HybridExecutor


def double(number):
    return 2 * number


def slowly_double(number):
    time.sleep(0.5)
    return 2 * number


def in_a_thread(context):
    with HybridExecutor(1, context) as executor:
        print("made in a thread:", list(executor.map(double, range(3))))


def by_many_threads(context):
    with HybridExecutor(2, context) as executor, ThreadPoolExecutor(8) as threads:

        def work(number):
            items = range(number * 100, number * 100 + 100)
            futures = [executor.submit(double, item) for item in items]
            expected = [2 * item for item in items]
            mapped = list(executor.map(double, items))
            return mapped == expected == [future.result() for future in futures]

        print("shared by 8 threads:", all(threads.map(work, range(8))))


def left_by_its_thread(context):
    futures = []

    def submit_and_leave():
        executor = HybridExecutor(1, context)
        futures.extend(executor.submit(double, number) for number in range(3))

    thread = threading.Thread(target=submit_and_leave)
    thread.start()
    thread.join()
    print("submitted by a thread that ended:", [future.result() for future in futures])


def wait_for(executor, future):
    print("while the main thread ends:", future.result(), flush=True)


def main():
    context = multiprocessing.get_context(sys.argv[1])
    thread = threading.Thread(target=in_a_thread, args=(context,))
    thread.start()
    thread.join()
    by_many_threads(context)
    left_by_its_thread(context)
    executor = HybridExecutor(1, context)
    future = executor.submit(slowly_double, 21)
    threading.Thread(target=wait_for, args=(executor, future)).start()


if __name__ == "__main__":
    main()
