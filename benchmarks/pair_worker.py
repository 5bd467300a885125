"""One process of the hand-written pair: a greenlet for each item of a list it is given.

Reads ``(function, items, limit)`` from standard input, writes the list of results to standard
output, again and again until the input ends.
"""

# Before any other import, or what they import would keep the unpatched originals.
from gevent import monkey

monkey.patch_all()

import pickle  # noqa: E402
import sys  # noqa: E402

import gevent.pool  # noqa: E402


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
