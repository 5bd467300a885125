"""Libraries that wait in C, so that gevent cannot let other calls run meanwhile, and their cures.

Thread: any. Only names are looked at; nothing is imported.
Guarantees: each entry has a section of the same name on the documentation's page "Doctor".
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable


class Driver:
    """A library, the signs by which it is known, and what to do about it."""

    def __init__(
        self,
        name: str,
        *modules: str,
        waits: str,
        cure: str,
        cured_by: tuple[str, ...] = (),
        called: str = "",
    ) -> None:
        """
        Args:
            name: of the library, and of its section in the documentation.
            modules: whose import means that it is used.
            waits: what waits in C.
            cure: what to do.
            cured_by: modules whose import means that this is being done, and functions or keywords
                whose use does.
            called: a function without whose call it does no harm.
        """
        self.name = name
        self.modules = modules
        self.waits = waits
        self.cure = cure
        self.cured_by = cured_by
        self.called = called

    @property
    def anchor(self) -> str:
        """Where the documentation tells more."""
        return f"doctor.html#{self.name}"


_THREAD = "hand it to a real thread by gevent.get_hub().threadpool.apply()"

DRIVERS = (
    Driver(
        "psycopg2",
        "psycopg2",
        waits="connecting and queries wait in libpq",
        cure="call psycogreen.gevent.patch_psycopg() in the initializer, or use psycopg 3",
        cured_by=("psycogreen", "set_wait_callback"),
    ),
    Driver(
        "mysqlclient",
        "MySQLdb",
        waits="connecting and queries wait in libmysqlclient",
        cure="use PyMySQL (pymysql.install_as_MySQLdb() has others find it)",
        cured_by=("pymysql",),
    ),
    Driver(
        "mysql-connector",
        "mysql.connector",
        waits="connecting and queries wait in C, where its C extension is installed",
        cure="connect with use_pure=True",
        cured_by=("use_pure",),
    ),
    Driver(
        "grpc",
        "grpc",
        "google.cloud.bigtable",
        "google.cloud.firestore",
        "google.cloud.pubsub_v1",
        "google.cloud.spanner",
        waits="requests wait in its C core",
        cure="call grpc.experimental.gevent.init_gevent() in the initializer",
        cured_by=("grpc.experimental.gevent", "init_gevent"),
    ),
    Driver(
        "confluent-kafka",
        "confluent_kafka",
        waits="poll(), consume() and flush() wait in librdkafka",
        cure="poll with a timeout of 0 and time.sleep() between, or " + _THREAD,
    ),
    Driver(
        "oracledb",
        "oracledb",
        waits="in its thick mode, all waits are in Oracle's client library",
        cure="leave out init_oracle_client(), which leaves it in its thin mode",
        called="init_oracle_client",
    ),
    Driver(
        "cx-oracle",
        "cx_Oracle",
        waits="connecting and queries wait in Oracle's client library",
        cure="use oracledb, its successor, in its thin mode",
    ),
    Driver(
        "pyodbc",
        "pyodbc",
        waits="connecting and queries wait in the ODBC driver",
        cure="use a driver in Python for this database, or " + _THREAD,
    ),
    Driver(
        "pymssql",
        "pymssql",
        waits="connecting and queries wait in FreeTDS",
        cure="call pymssql.set_wait_callback() in the initializer, with a function that waits for "
        "the descriptor by gevent.socket.wait_read()",
        cured_by=("set_wait_callback",),
    ),
    Driver(
        "pyzmq",
        "zmq",
        waits="send(), recv() and poll() wait in libzmq",
        cure="import zmq.green as zmq",
        cured_by=("zmq.green",),
    ),
    Driver(
        "pycurl",
        "pycurl",
        waits="perform() waits in libcurl",
        cure="use requests, urllib3 or httpx, or " + _THREAD,
    ),
    Driver(
        "python-ldap",
        "ldap",
        waits="requests wait in libldap",
        cure="use ldap3",
    ),
    Driver(
        "pylibmc",
        "pylibmc",
        waits="requests wait in libmemcached",
        cure="use pymemcache",
    ),
    Driver(
        "uvloop",
        "uvloop",
        waits="a loop of its kind waits in libuv until it has run to its end",
        cure="leave it out: asyncio's own loops work in many calls at once",
    ),
)


def of_module(name: str) -> Driver | None:
    """The driver that is used by whoever imports this module."""
    for driver in DRIVERS:
        if any(f"{name}.".startswith(f"{module}.") for module in driver.modules):
            return driver
    return None


#: The modules that :func:`harmful` is told of, if they are loaded.
SIGNS = tuple(sorted({module for each in DRIVERS for module in (*each.modules, *each.cured_by)}))


def harmful(loaded: Collection[str]) -> list[str]:
    """The names of drivers that a process has loaded and done nothing about, as far as can be told
    by the names of its modules."""
    return [
        driver.name
        for driver in DRIVERS
        if not driver.called
        and not set(driver.modules).isdisjoint(loaded)
        and set(driver.cured_by).isdisjoint(loaded)
    ]


#: What to do in workers that are not for greenlets, whose libraries wait as their makers meant.
_ELSEWHERE = {
    "async": "await it in a thread, by asyncio.to_thread(), or make such calls through "
    'options(lane="thread")',
    "thread": "C code keeps the GIL, so fewer threads and more workers wait for it less",
}


def advice(stack: str, names: Iterable[str], code: str, lane: str = "greenlet") -> str:
    """Which line of code keeps other calls waiting, and what to do about it, in words.

    Args:
        stack: that of the call, as text; may be empty.
        names: the drivers that its process has loaded. If the stack leads through one of them, or
            another, it is that.
        code: the section of the documentation for what is in none of them.
        lane: of which kind the worker is.
    """
    places = _PLACE.findall(stack)
    text = "It is at {}:{}. ".format(*places[-1]) if places else ""
    if lane in _ELSEWHERE:
        return f"{text}To do: {_ELSEWHERE[lane]}."
    through = [driver for file, _ in reversed(places) for driver in DRIVERS if _has(driver, file)]
    known = through[:1] or [driver for driver in DRIVERS if driver.name in set(names)]
    for driver in known:
        text += (
            f"That worker uses {driver.modules[0]}: {driver.waits}. To do: {driver.cure}; see "
            f"{driver.anchor}. "
        )
    return text.rstrip() if known else f"{text}What to do: see doctor.html#{code}."


_PLACE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)


def _has(driver: Driver, file: str) -> bool:
    """Whether a file belongs to a driver."""
    parts = "/" + "/".join(file.removesuffix(".py").split(os.sep)) + "/"
    return any(f"/{module.replace('.', '/')}/" in parts for module in driver.modules)
