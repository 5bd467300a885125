"""SQLite: calls that find the database busy wait for it, and let the others go on."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from .conftest import Make


def prepare(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (n)")
    connection.commit()
    connection.close()


def rows(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    found = [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]
    connection.close()
    return found


def write(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, timeout=60)
    with connection:
        connection.execute("INSERT INTO t VALUES (?)", (n,))
        time.sleep(0.02)  # with the lock held
    connection.close()


def script(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, 60, isolation_level=None)
    connection.executescript(f"BEGIN; INSERT INTO t VALUES ({n}); COMMIT; -- ; done")
    connection.close()


def many(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.executemany("INSERT INTO t VALUES (?)", iter([(n,)]))
    connection.close()


def immediate(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA busy_timeout=60000")
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (60000,)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (?)", (n,))
    time.sleep(0.02)
    connection.execute("COMMIT")
    connection.close()


WRITERS: list[Callable[[Path, int], None]] = [write, script, many, immediate]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_is_written_is_stored(make_each: Make, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "base"
    prepare(path)
    executor = make_each(max_workers=workers)
    for first, writer in enumerate(WRITERS):
        futures = [executor.submit(writer, path, 20 * first + n) for n in range(20 // workers)]
        for future in futures:
            future.result(timeout=90)
    assert rows(path) == [20 * k + n for k in range(len(WRITERS)) for n in range(20 // workers)]


def wait_and_others(path: Path) -> tuple[str, bool]:
    """It waits no longer than it is to, and others go on."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            time.sleep(0.01)
            ticks += 1

    ticker = gevent.spawn(tick)
    connection = sqlite3.connect(path, timeout=0.3)
    assert isinstance(connection, sqlite3.Connection)
    assert type(connection) is sqlite3.Connection
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        connection.execute("INSERT INTO t VALUES (1)")
    ticker.kill()
    holder.close()
    connection.close()
    return str(caught.value), ticks >= 3


def upgrade(path: Path) -> tuple[str, bool]:
    """Who has read in its transaction cannot wait for who writes."""
    reader, writer = (sqlite3.connect(path, 60, isolation_level=None) for _ in range(2))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO t VALUES (7)")
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError) as caught:
        reader.execute("INSERT INTO t VALUES (8)")
    at_once = time.monotonic() - began < 30
    ending = gevent.spawn(writer.execute, "COMMIT")
    time.sleep(0.05)
    assert not ending.dead
    reader.execute("ROLLBACK")
    ending.get(timeout=30)
    reader.close()
    writer.close()
    return str(caught.value), at_once


def copy(path: Path) -> tuple[str, bool]:
    """A backup waits for a writer beside it."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    source, target = sqlite3.connect(path), sqlite3.connect(":memory:")
    copying = gevent.spawn(source.backup, target, sleep=0.02)
    time.sleep(0.1)
    waited = not copying.dead
    holder.execute("INSERT INTO t VALUES (3)")
    holder.execute("COMMIT")
    copying.get(timeout=30)
    found = target.execute("SELECT n FROM t").fetchall()
    for connection in (holder, source, target):
        connection.close()
    return str(found), waited


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (wait_and_others, ("database is locked", True)),
        (upgrade, ("database is locked", True)),
        (copy, ("[(3,)]", True)),
    ],
)
def test_waits(
    make: Make, tmp_path: Path, function: Callable[[Path], object], result: object
) -> None:
    prepare(tmp_path / "base")
    assert make(max_workers=1).submit(function, tmp_path / "base").result(timeout=60) == result
