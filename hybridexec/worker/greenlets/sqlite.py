"""Waits for a busy SQLite database without blocking the hub.

Thread: any thread or greenlet that uses ``sqlite3``.
Guarantees: it waits for what the library's own busy handler would wait for, up to the connection's
timeout; what that would not wait for, because nobody could go on, is raised at once.

That handler sleeps in C and blocks the hub, so a neighbour that holds the lock could never release
it. Here connections have none, and statements that found the database busy, which have done nothing
then, are run again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from sqlite3 import dbapi2 as _dbapi2
from typing import Any, TypeVar

from ... import native
from .blocking import Pauses
from .blocking import sleep as pause

_T = TypeVar("_T")

_Connection: Any = _dbapi2.Connection
_Cursor: Any = _dbapi2.Cursor
_connect: Callable[..., Any] = _dbapi2.connect

_BUSY, _LOCKED, _BUSY_SNAPSHOT = 5, 6, 517
_FACTORY = 5  # its place among the arguments of ``connect``

_first_word = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(\w*)", re.DOTALL)
#: Statements that end a transaction: they are waited for whatever it has read.
_ENDS = {"COMMIT", "END", "RELEASE", "ROLLBACK"}


def mend(dbapi2: Any) -> None:
    """Put ours into ``sqlite3``."""
    package: Any = sys.modules["sqlite3"]
    for module in (dbapi2, package):
        module.Connection, module.Cursor, module.connect = Connection, Cursor, connect


def connect(*args: Any, **kwargs: Any) -> Any:
    """``sqlite3.connect``."""
    if len(args) <= _FACTORY:
        kwargs.setdefault("factory", Connection)
    return _connect(*args, **kwargs)


class Connection(_Connection):  # type: ignore[misc]  # of no type that is known
    """``sqlite3.Connection``."""

    _patience = 0.0
    #: Whether the open transaction has read: it cannot wait to write then, for those who write wait
    #: for its end.
    _has_read = False

    def __init__(self, database: Any, timeout: float = 5.0, *args: Any, **kwargs: Any) -> None:
        if args:
            super().__init__(database, 0.0, *args, **kwargs)
        else:  # by name: from Python 3.15 on, only the database may go by place
            super().__init__(database, timeout=0.0, **kwargs)
        self._patience = timeout

    @property
    def isolation_level(self) -> Any:
        return super().isolation_level

    @isolation_level.setter
    def isolation_level(self, level: Any) -> None:
        self._change("isolation_level", level, level is None)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(Cursor if factory is None else factory)

    def execute(self, *args: Any) -> Any:
        return Connection.cursor(self).execute(*args)

    def executemany(self, *args: Any) -> Any:
        return Connection.cursor(self).executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return Connection.cursor(self).executescript(*args)

    def commit(self) -> None:
        self._insist("COMMIT", super().commit)
        self._has_read = False

    def rollback(self) -> None:
        super().rollback()
        self._has_read = False

    def __exit__(self, *error: object) -> None:
        # As there, also where a class derived from this has methods of its own.
        if error[0] is not None:
            Connection.rollback(self)
            return
        try:
            Connection.commit(self)
        except BaseException:
            Connection.rollback(self)
            raise

    def blobopen(self, *args: Any, **kwargs: Any) -> Any:
        return self._insist("SELECT", lambda: super(Connection, self).blobopen(*args, **kwargs))

    def backup(
        self,
        target: Any,
        *,
        pages: int = -1,
        progress: Any = None,
        name: str = "main",
        sleep: float = 0.25,
    ) -> None:
        def after_step(status: int, remaining: int, total: int) -> None:
            if progress is not None:
                progress(status, remaining, total)
            if status in (_BUSY, _LOCKED):
                pause(sleep)

        super().backup(target, pages=pages, progress=after_step, name=name, sleep=0.0)

    def _change(self, name: str, value: Any, commits: bool) -> None:
        """Change an attribute, which may commit what there is."""
        change = getattr(_Connection, name).__set__
        if commits:
            self._insist("COMMIT", lambda: change(self, value))
        else:
            change(self, value)

    def _insist(self, sql: Any, run: Callable[[], _T]) -> _T:
        """``run`` what executes ``sql``, again and again while the database is busy."""
        word = _word(sql)
        if word == "PRAGMA" and "busy_timeout" in sql.lower():
            return self._with_timeout(run)
        if not self.in_transaction:
            self._has_read = False
        pauses: Pauses | None = None
        while True:
            began = self.in_transaction
            try:
                return run()
            except _dbapi2.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)
                if code & 0xFF != _BUSY or code == _BUSY_SNAPSHOT:
                    raise
                if began and not self.in_transaction:
                    raise  # all that the transaction had done is undone, not only this
                if self._has_read and word not in _ENDS:
                    raise
                if pauses is None:
                    pauses, end = Pauses(), native.monotonic() + self._patience
                left = end - native.monotonic()
                if left <= 0:
                    raise
            pauses.pause(left)

    def _with_timeout(self, run: Callable[[], _T]) -> _T:
        """Let the library tell and change its own timeout."""
        aside = _Cursor(self)
        aside.row_factory = None
        aside.execute(f"PRAGMA busy_timeout={int(self._patience * 1000)}")
        try:
            return run()
        finally:
            self._patience = aside.execute("PRAGMA busy_timeout").fetchone()[0] / 1000
            aside.execute("PRAGMA busy_timeout=0")


if hasattr(_Connection, "autocommit"):  # Python 3.12's

    def _autocommit(self: Connection) -> Any:
        return _Connection.autocommit.__get__(self)

    def _set_autocommit(self: Connection, value: Any) -> None:
        self._change("autocommit", value, value is True)

    Connection.autocommit = property(_autocommit, _set_autocommit)


class Cursor(_Cursor):  # type: ignore[misc]  # of no type that is known
    """``sqlite3.Cursor``."""

    def execute(self, sql: Any, parameters: Any = (), /) -> Any:
        connection = self.connection
        if not isinstance(connection, Connection):
            return super().execute(sql, parameters)
        execute = super().execute
        connection._insist(sql, lambda: execute(sql, parameters))
        if self.description is not None and connection.in_transaction and _word(sql) != "PRAGMA":
            connection._has_read = True
        return self

    def executemany(self, sql: Any, parameters: Any, /) -> Any:
        connection = self.connection
        if not isinstance(connection, Connection):
            return super().executemany(sql, parameters)
        rows = _Rows(parameters)
        execute = super().executemany
        connection._insist(sql, lambda: execute(sql, rows.from_last()))
        return self

    def executescript(self, script: Any, /) -> Any:
        connection = self.connection
        if not isinstance(connection, Connection) or not isinstance(script, str):
            return super().executescript(script)
        if "\0" in script:
            return super().executescript(script)  # refuses it
        # Who runs it again must know where it was. As a whole it would begin with a COMMIT.
        legacy = getattr(connection, "autocommit", -1) == -1
        level = connection.isolation_level
        if legacy:
            connection.commit()
            connection.isolation_level = None
        try:
            aside = Cursor(connection)
            aside.row_factory = None
            for statement in _statements(script):
                aside.execute(statement).fetchall()
        finally:
            if legacy and level is not None:
                connection.isolation_level = level
        return self


class _Rows:
    """Rows for a statement; who begins anew gets the last once more: it was not done."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = iter(rows)
        self._last: list[Any] = []

    def from_last(self) -> Iterator[Any]:
        yield from self._last
        for row in self._rows:
            self._last = [row]
            yield row


def _statements(script: str) -> Iterator[str]:
    begin = end = 0
    while (end := script.find(";", end) + 1) > 0:
        statement = script[begin:end]
        if _dbapi2.complete_statement(statement):
            yield statement
            begin = end
    if script[begin:].strip():
        yield script[begin:]


def _word(sql: Any) -> str:
    found = _first_word.match(sql) if isinstance(sql, str) else None
    return found[1].upper() if found else ""


for _ours in (Connection, Cursor):
    _ours.__module__ = "sqlite3"
