"""Drivers that wait in C, with the hooks that have them wait in the hub: the recipes of the
documentation. The servers answer when all calls are there, so only concurrent ones get by."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor

CALLS = 20
PATIENCE = 120
pytestmark = pytest.mark.timeout(300)


def needs(*modules: str) -> pytest.MarkDecorator:
    """They are installed on those Pythons that they have wheels for."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")


# -- psycopg2 --------------------------------------------------------------------------------------


class Session(socketserver.StreamRequestHandler):
    """Speaks as much of PostgreSQL's protocol as psycopg2 needs for a query."""

    def say(self, kind: bytes, body: bytes) -> None:
        self.wfile.write(kind + struct.pack("!i", len(body) + 4) + body)

    def handle(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError, OSError):  # its client has gone
            self.converse()

    def converse(self) -> None:
        self.start()
        while (kind := self.rfile.read(1)) == b"Q":
            sql = self.rfile.read(struct.unpack("!i", self.rfile.read(4))[0] - 4)
            word = sql.split(b"\0")[0].split()[0].upper()
            if word == b"SELECT":
                self.select(re.findall(rb"\d+", sql)[0])
            self.say(b"C", word + b"\0")
            self.say(b"Z", b"I" if word in (b"COMMIT", b"ROLLBACK") else b"T")
        assert kind in (b"X", b"")

    def start(self) -> None:
        while True:
            size, code = struct.unpack("!ii", self.rfile.read(8))
            self.rfile.read(size - 8)
            if code == 3 << 16:
                break
            self.wfile.write(b"N")  # no encryption
        self.say(b"R", struct.pack("!i", 0))
        for name, value in (
            (b"server_version", b"15.0"),
            (b"client_encoding", b"UTF8"),
            (b"standard_conforming_strings", b"on"),
            (b"DateStyle", b"ISO, MDY"),
        ):
            self.say(b"S", name + b"\0" + value + b"\0")
        self.say(b"K", struct.pack("!ii", 1, 1))
        self.say(b"Z", b"I")

    def select(self, number: bytes) -> None:
        self.server.meeting.wait(PATIENCE)  # type: ignore[attr-defined]
        integer = struct.pack("!ihihih", 0, 0, 23, 4, -1, 0)
        self.say(b"T", struct.pack("!h", 1) + b"n\0" + integer)
        self.say(b"D", struct.pack("!hi", 1, len(number)) + number)


class Database(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.meeting = threading.Barrier(CALLS)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.meeting.abort()
        server.shutdown()
        thread.join()


def have_psycopg2_wait() -> None:
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()


def query(port: int, number: int) -> int:
    import psycopg2

    connection = psycopg2.connect(host="127.0.0.1", port=port, user="u", dbname="d")
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT %s", (number,))
        row: tuple[int] = cursor.fetchone()
        return row[0]


@needs("psycopg2", "psycogreen")
def test_psycopg2_with_psycogreen(database: Database) -> None:
    port = database.server_address[1]
    with HybridExecutor(1, initializer=have_psycopg2_wait) as executor:
        for _ in range(2):
            found = executor.map(query, [port] * CALLS, range(CALLS), timeout=PATIENCE)
            assert list(found) == list(range(CALLS))
        late = executor.options(timeout=0.3).submit(query, port, 1)
        assert late.exception(PATIENCE) is not None
        assert executor.submit(pow, 2, 3).result(PATIENCE) == 8


# -- gRPC ------------------------------------------------------------------------------------------

SERVER = """
import sys, threading
from concurrent import futures
import grpc

calls = int(sys.argv[1])
meeting = threading.Barrier(calls)

def shout(request, context):
    meeting.wait(120)
    return request.upper()

def count(request, context):
    for number in range(3):
        yield shout(request, context) + b"%d" % number

def wait(request, context):
    threading.Event().wait(120)

methods = {
    "Shout": grpc.unary_unary_rpc_method_handler(shout),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
}
server = grpc.server(futures.ThreadPoolExecutor(calls + 5))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", methods),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None)
"""


@pytest.fixture
def grpc_port() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(CALLS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def have_grpc_wait() -> None:
    from grpc.experimental.gevent import init_gevent

    init_gevent()


def ask(port: int, method: str, number: int) -> Any:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = b"call %d, " % number
        if method == "Count":
            return list(channel.unary_stream("/a.B/Count")(request, timeout=PATIENCE))
        return channel.unary_unary(f"/a.B/{method}")(request, timeout=PATIENCE)


@pytest.mark.slow
@needs("grpc")
def test_grpc_with_its_hook(grpc_port: int) -> None:
    with HybridExecutor(1, initializer=have_grpc_wait) as executor:
        said = executor.map(
            ask, [grpc_port] * CALLS, ["Shout"] * CALLS, range(CALLS), timeout=PATIENCE
        )
        assert list(said) == [b"CALL %d, " % number for number in range(CALLS)]
        said = executor.map(
            ask, [grpc_port] * CALLS, ["Count"] * CALLS, range(CALLS), timeout=PATIENCE
        )
        assert list(said) == [
            [b"CALL %d, %d" % (number, place) for place in range(3)] for number in range(CALLS)
        ]
        late = executor.options(timeout=0.3).submit(ask, grpc_port, "Wait", 1)
        assert isinstance(late.exception(PATIENCE), CallTimeout)
        assert executor.submit(pow, 2, 3).result(PATIENCE) == 8
