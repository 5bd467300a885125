"""One process of the hand-written pair: a greenlet for each item of a list it is given.

Reads ``(function, items, limit)`` from standard input, writes the list of results to standard
output, again and again until the input ends.
"""

# ruff: noqa: E402 - patched before any other import, which would keep the unpatched originals
from gevent import monkey

monkey.patch_all()

import pickle
import sys

import gevent.pool


def main() -> None:
    """Serve until the input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    pickle.dump("ready", sink)
    sink.flush()
    while True:
        try:
            function, items, limit = pickle.load(source)
        except EOFError:
            return
        pool = gevent.pool.Pool(limit)
        greenlets = [pool.spawn(function, item) for item in items]
        pool.join()
        pickle.dump([greenlet.value for greenlet in greenlets], sink)
        sink.flush()


if __name__ == "__main__":
    main()
