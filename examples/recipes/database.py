"""A PostgreSQL server of one's own to try query.py on, in a folder that goes away with it.

python database.py       # prints how to connect, and serves until its standard input ends
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

#: Seconds until it answers.
PATIENCE = 60
CUSTOMERS, ORDERS = 10_000, 100_000
FILL = f"""
CREATE TABLE orders AS SELECT n % {CUSTOMERS} AS customer, n AS cents
FROM generate_series(0, {ORDERS - 1}) AS n;
CREATE INDEX ON orders (customer);
ANALYZE orders
"""


def programs() -> Path | None:
    """Where PostgreSQL's own programs are; None if it is not installed."""
    places = [*os.environ["PATH"].split(os.pathsep), *Path("/usr/lib/postgresql").glob("*/bin")]
    found = shutil.which("initdb", path=os.pathsep.join(map(str, places)))
    return None if found is None else Path(found).parent


@contextmanager
def running() -> Iterator[str]:
    """A running server that has the table; how to connect to it."""
    binaries = programs()
    assert binaries is not None, "PostgreSQL is not installed"
    # It refuses to run as root.
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    with tempfile.TemporaryDirectory(prefix="shop") as folder:
        if user:
            shutil.chown(folder, "postgres")
        data = Path(folder, "data")
        init = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "shop", "-N"]
        subprocess.run(init, check=True, **user, **quiet)
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        serve = [binaries / "postgres", "-D", data, *options.split()]
        with subprocess.Popen(serve, **user, **quiet) as server:
            try:
                conninfo = f"host={folder} user=shop dbname=postgres"
                _fill(conninfo, server)
                yield conninfo
            finally:
                server.send_signal(signal.SIGINT)


def _fill(conninfo: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with psycopg.connect(conninfo) as connection:
                connection.execute(FILL)
            return
        except psycopg.OperationalError:  # it does not answer yet
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    with running() as conninfo:
        print(conninfo, flush=True)
        sys.stdin.read()
