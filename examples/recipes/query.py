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


def total_of(pool, customer):
    """What a customer has ordered: how many times, and for how many cents."""
    with pool.connection() as connection:
        query = "SELECT count(*), coalesce(sum(cents), 0) FROM orders WHERE customer = %s"
        return connection.execute(query, (customer,)).fetchone()


def total(customer):
    return total_of(hybridexec.state(), customer)


def totals(conninfo, customers):
    with HybridExecutor(concurrency=100, worker_state=partial(connections, conninfo)) as executor:
        return list(executor.map(total, range(customers), buffersize=10_000))


if __name__ == "__main__":
    began = time.perf_counter()
    found = totals(sys.argv[1], int(sys.argv[2]))
    orders, cents = (sum(column) for column in zip(*found, strict=True))
    print(f"{orders:,} orders, {cents / 100:,.2f} in {time.perf_counter() - began:.2f} s")
