"""Run many queries: psycopg 3, with a pool of 20 connections in each worker.

    python query.py "dbname=shop" 10000

The calls of a worker share its connections: a hundred calls that each hold one for a few
milliseconds need twenty, not a hundred, which the server would have to keep.
"""

import sys
import time
from contextlib import contextmanager
from functools import partial

from psycopg_pool import ConnectionPool

import hybridexec
from hybridexec import HybridExecutor


@contextmanager
def connections(conninfo):
    with ConnectionPool(conninfo, min_size=1, max_size=20, timeout=60) as pool:
        yield pool


def total(customer):
    """What a customer has ordered."""
    with hybridexec.state().connection() as connection:
        query = "SELECT count(*), coalesce(sum(cents), 0) FROM orders WHERE customer = %s"
        return connection.execute(query, (customer,)).fetchone()


if __name__ == "__main__":
    conninfo, count = sys.argv[1], int(sys.argv[2])
    began = time.perf_counter()
    with HybridExecutor(concurrency=100, worker_state=partial(connections, conninfo)) as executor:
        totals = list(executor.map(total, range(count), buffersize=10_000))
    orders, cents = (sum(column) for column in zip(*totals, strict=True))
    print(f"{orders:,} orders, {cents / 100:,.2f} in {time.perf_counter() - began:.2f} s")
