"""Ctrl-C while calls run: ``interrupted.py METHOD caught|uncaught``."""

import multiprocessing
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError

from hybridexec import HybridExecutor


def double(number):
    return 2 * number


def slowly_double(number):
    time.sleep(0.5)
    return 2 * number


def keep_submitting(executor):
    for number in range(10**9):
        try:
            executor.submit(double, number).result()
        except (RuntimeError, CancelledError):  # it was shut down, and because of Ctrl-C
            return
        time.sleep(0.001)


def main():
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    executor = HybridExecutor(2, multiprocessing.get_context(sys.argv[1]))
    threading.Thread(target=keep_submitting, args=(executor,), daemon=True).start()
    executor.submit(double, 1).result()
    if sys.argv[2] == "caught":
        pids = set(executor._processes)
        future = executor.submit(slowly_double, 4)
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("KeyboardInterrupt", flush=True)
        print("the running call:", future.result())
        print("further calls:", list(executor.map(double, range(3))))
        print("same workers:", pids <= set(executor._processes))
        executor.shutdown()
        print("shut down", flush=True)
    else:
        with executor:
            futures = [executor.submit(slowly_double, number) for number in range(10)]
            print("ready", flush=True)
            while True:
                for future in futures:
                    future.result()


if __name__ == "__main__":
    main()
