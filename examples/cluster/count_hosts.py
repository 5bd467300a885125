"""On which hosts do calls run?

    python count_hosts.py tcp://scheduler:8786

It makes 3,000 calls of 0.2 s on a cluster, and counts them by host.
"""

import collections
import socket
import sys
import time

from hybridexec.cluster import ClusterExecutor


def where(number: int) -> str:
    """A call that waits, and tells where it did."""
    time.sleep(0.2)
    return socket.gethostname()


def main() -> None:
    """Run the calls and print how many each host had."""
    with ClusterExecutor(sys.argv[1], concurrency=200) as executor:
        began = time.perf_counter()
        hosts = collections.Counter(executor.map_unordered(where, range(3_000)))
        print(f"{hosts.total():,} calls of 0.2 s in {time.perf_counter() - began:.1f} s")
    for host, count in sorted(hosts.items()):
        print(f"{host}  {count:,}")


if __name__ == "__main__":
    main()
