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
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
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


class OwnCursor(sqlite3.Cursor):
    pass


class OwnConnection(sqlite3.Connection):
    def cursor(self, *_: object) -> OwnCursor:
        return super().cursor(OwnCursor)

    def commit(self) -> None:
        raise NotImplementedError


def subclassed(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, timeout=60, factory=OwnConnection)
    with connection:
        assert type(connection.cursor().execute("INSERT INTO t VALUES (?)", (n,))) is OwnCursor
        # Neither these nor the end of the block call what is overridden.
        assert type(connection.execute("SELECT 1")) is sqlite3.Cursor
        time.sleep(0.02)
    connection.close()


def returning(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, timeout=60)
    with connection:
        sql = "INSERT INTO t VALUES (?) RETURNING n"
        assert connection.execute(sql, (n,)).fetchall() == [(n,)]
        time.sleep(0.02)
    connection.close()


def log_ahead(path: Path, n: int) -> None:
    connection = sqlite3.connect(path, timeout=60)
    assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    write(path, n)
    connection.close()


WRITERS: list[Callable[[Path, int], None]] = [
    *(write, script, many, immediate),
    # The last one leaves a log to the file, and with it, others wait for other locks.
    *(subclassed, returning, log_ahead),
]


@pytest.mark.slow
@pytest.mark.slow_on("spawn", "fork")
@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_is_written_is_stored(
    make_each: Make, method: str, tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "base"
    prepare(path)
    executor = make_each(max_workers=workers)
    # What is derived before patching is what it was.
    writers = [writer for writer in WRITERS if method != "fork" or writer is not subclassed]
    for first, writer in enumerate(writers):
        futures = [executor.submit(writer, path, 20 * first + n) for n in range(20 // workers)]
        for future in futures:
            future.result(timeout=90)
    assert rows(path) == [20 * k + n for k in range(len(writers)) for n in range(20 // workers)]


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
    for _ in range(20):  # a busy machine may give this process no time for all of a wait
        ticks = 0
        with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
            connection.execute("INSERT INTO t VALUES (1)")
        if ticks >= 3:
            break
    ticker.kill()
    holder.close()
    connection.close()
    return str(caught.value), ticks >= 3


def upgrade(path: Path) -> tuple[str, bool]:
    """Who has read in its transaction cannot wait for who writes."""
    reader, writer = (sqlite3.connect(path, timeout=60, isolation_level=None) for _ in range(2))
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


def snapshot(path: Path) -> tuple[str, bool]:
    """Who has read what is no longer so cannot write, however long it waits."""
    reader, writer = (sqlite3.connect(path, timeout=60, isolation_level=None) for _ in range(2))
    writer.execute("PRAGMA journal_mode=WAL")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    writer.execute("INSERT INTO t VALUES (7)")
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError) as caught:
        reader.execute("INSERT INTO t VALUES (8)")
    at_once = time.monotonic() - began < 30
    reader.execute("ROLLBACK")
    reader.execute("INSERT INTO t VALUES (8)")
    reader.close()
    writer.close()
    return caught.value.sqlite_errorname, at_once


def no_patience(path: Path) -> tuple[str, bool]:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    connection = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("SELECT * FROM t")
    connection.close()
    holder.close()
    return str(caught.value), time.monotonic() - began < 30


def implied(path: Path) -> tuple[str, bool]:
    """What commits though nobody says so waits for those who read."""
    left = []
    for name, value in (("isolation_level", None), ("autocommit", True)):
        if not hasattr(sqlite3.Connection, name):
            continue
        reader, writer = (
            sqlite3.connect(path, isolation_level=None),
            sqlite3.connect(path, timeout=60),
        )
        if name == "autocommit":
            writer.autocommit = False
        writer.execute("INSERT INTO t VALUES (5)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        ending = gevent.spawn_later(0.1, reader.execute, "COMMIT")
        setattr(writer, name, value)
        left += [writer.in_transaction, getattr(writer, name) is not value, not ending.dead]
        reader.close()
        writer.close()
    return str(any(left)), rows(path)[0] == 5


def pieces(path: Path) -> tuple[str, bool]:
    """Scripts and blobs, as ever."""
    connection = sqlite3.connect(path)
    seen = []
    for text in (
        "",
        ";; -- nothing",
        "SELECT ';'; CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END;",
        "INSERT INTO t VALUES (1); bad; INSERT INTO t VALUES (2)",
        "SELECT 1\0",
    ):
        try:
            seen.append(type(connection.executescript(text)).__name__)
        except (sqlite3.Error, ValueError) as error:
            seen.append(type(error).__name__)
    connection.execute("CREATE TABLE b (x)")
    connection.execute("INSERT INTO b VALUES (zeroblob(3))")
    with connection.blobopen("b", "x", 1) as blob:
        blob.write(b"ab")
    connection.commit()
    found = connection.execute("SELECT x FROM b").fetchone()
    connection.close()
    return " ".join(seen), (found, rows(path)) == ((b"ab\0",), [1])


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
        (snapshot, ("SQLITE_BUSY_SNAPSHOT", True)),
        (no_patience, ("database is locked", True)),
        (implied, ("False", True)),
        (pieces, ("Cursor Cursor Cursor OperationalError ValueError", True)),
    ],
)
def test_waits(
    make: Make, tmp_path: Path, function: Callable[[Path], object], result: object
) -> None:
    prepare(tmp_path / "base")
    assert make(max_workers=1).submit(function, tmp_path / "base").result(timeout=60) == result
