"""Plain blocking clients, as anyone would write them; they run in workers."""

from __future__ import annotations

import http.client
import logging
import multiprocessing.util
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from functools import cache
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import gevent.monkey
import gevent.os
import requests
import urllib3
from loopback_server import Server

LOCAL = threading.local()
QUEUE: Any = None
TIMEOUT = 60


def tls_context(server: Server) -> ssl.SSLContext | None:
    return None if server.authority is None else ssl.create_default_context(cafile=server.authority)


# -- one GET of a path, by each client ----------------------------------------------------------


def get_by_socket(server: Server, path: str) -> str:
    with socket.create_connection(("localhost", server.port), TIMEOUT) as plain:
        context = tls_context(server)
        sock = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while part := sock.recv(4096):
            answer += part
        sock.close()
    return answer.rpartition(b"\r\n\r\n")[2].decode()


def get_by_http_client(server: Server, path: str) -> str:
    context = tls_context(server)
    if context is None:
        connection = http.client.HTTPConnection("localhost", server.port, timeout=TIMEOUT)
    else:
        connection = http.client.HTTPSConnection(
            "localhost", server.port, timeout=TIMEOUT, context=context
        )
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def get_by_urllib(server: Server, path: str) -> str:
    with urllib.request.urlopen(
        server.url + path, timeout=TIMEOUT, context=tls_context(server)
    ) as answer:
        return str(answer.read(), "utf-8")


def get_by_requests(server: Server, path: str) -> str:
    answer = requests.get(server.url + path, timeout=TIMEOUT, verify=server.authority or True)
    answer.raise_for_status()
    return answer.text


def get_by_session(server: Server, path: str) -> str:
    answer = session(server).get(
        server.url + path, timeout=TIMEOUT, verify=server.authority or True
    )
    answer.raise_for_status()
    return answer.text


def session(server: Server) -> requests.Session:
    """One for each thread, as far as a call can tell, and server."""
    sessions: dict[Server, requests.Session] = LOCAL.__dict__.setdefault("sessions", {})
    return sessions.setdefault(server, requests.Session())


def get_by_pool(server: Server, path: str) -> str:
    answer = pool(server.authority).request("GET", server.url + path, timeout=TIMEOUT)
    assert answer.status == 200
    return answer.data.decode()


@cache
def pool(authority: str | None) -> urllib3.PoolManager:
    """One for all calls of a worker, as the library's manual advises."""
    return urllib3.PoolManager(maxsize=500, block=True, ca_certs=authority)


def line_by_socket(server: Server, path: str) -> str:
    """The line protocol, through a file as people do it."""
    with socket.create_connection(("localhost", server.line_port), TIMEOUT) as plain:
        context = tls_context(server)
        sock = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        with sock.makefile("rw") as lines:
            lines.write(path.removeprefix("/") + "\n")
            lines.flush()
            line = lines.readline().strip()
        sock.close()
        return line


CLIENTS = (
    get_by_socket,
    get_by_http_client,
    get_by_urllib,
    get_by_requests,
    get_by_session,
    get_by_pool,
    line_by_socket,
)

# -- other calls --------------------------------------------------------------------------------


def post_by_session(server: Server, body: bytes) -> tuple[bytes, tuple[int, int]]:
    answer = session(server).post(
        f"{server.url}/echo", data=body, timeout=TIMEOUT, verify=server.authority or True
    )
    return answer.content, (os.getpid(), id(session(server)))


def get_unverified(server: Server, client: str) -> None:
    """Ask a server whose authority nobody knows."""
    stranger = Server(server.port, server.line_port, None)
    url = f"https://localhost:{server.port}/peak"
    if client == "requests":
        requests.get(url, timeout=TIMEOUT)
    elif client == "urllib3":
        urllib3.PoolManager().request("GET", url, retries=False, timeout=TIMEOUT)
    else:
        http.client.HTTPSConnection("localhost", stranger.port, timeout=TIMEOUT).request("GET", "/")


def sleep_span(seconds: float) -> tuple[float, float]:
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()


def look_up(number: int) -> tuple[str, set[str]]:
    found = socket.getaddrinfo("localhost", 1024 + number, proto=socket.IPPROTO_TCP)
    assert all(address[4][1] == 1024 + number for address in found)
    return socket.gethostbyname("localhost"), {str(address[4][0]) for address in found}


def look_up_nobody(name: str) -> None:
    socket.getaddrinfo(name, 80)


#: Sign in, wait until as many have as ought to, and say so.
MEET = 'touch "$0/$1"; until [ "$(ls "$0" | wc -l)" -ge "$2" ]; do sleep 0.1; done; echo "met $1"'


def meet_in_subprocesses(folder: str, number: int, count: int) -> str:
    done = subprocess.run(
        ["sh", "-c", MEET, folder, str(number), str(count)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return done.stdout.strip()


def exit_code_of_subprocess(code: int) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "-c", f"cat; exit {code}"],
        input=f"{code}",
        text=True,
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, done.stdout


def large_output(size: int) -> int:
    return len(subprocess.check_output(["head", "-c", str(size), "/dev/zero"]))


def hang_in_subprocess(mark: str) -> None:
    """Wait for a child whose pid is in the file ``mark``; the child ends when the wait does."""
    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            unfinished = Path(mark).with_suffix(".new")
            unfinished.write_text(str(child.pid))
            unfinished.rename(mark)
            child.wait()
        finally:
            child.kill()


def wait_for_a_short_child() -> int:
    """The exit code of a child that has ended before ``fork`` returns here."""

    def fork_and_lag() -> int:
        pid: int = gevent.monkey.get_original("os", "fork")()
        if pid == 0:
            os._exit(7)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    pid = gevent.os.fork_and_watch(fork=fork_and_lag)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def log_to(path: str) -> None:
    """An initializer: all that is logged in the worker goes to one file of the worker's own."""
    handler = logging.FileHandler(Path(path) / f"{os.getpid()}.log")
    handler.setFormatter(logging.Formatter("%(processName)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def log_some(number: int) -> int:
    logger = logging.getLogger(f"client.{number}")
    logger.info("before %d %s", number, "x" * 200)
    time.sleep(0.01)
    logger.info("after %d %s", number, "x" * 200)
    return os.getpid()


def log_through_queue(queue: Queue[Any]) -> None:
    """An initializer: all that is logged in the worker goes to the parent."""
    import logging.handlers

    handler = logging.handlers.QueueHandler(queue)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def keep_queue(queue: object) -> None:
    """An initializer: the calls of this worker find the queue."""
    global QUEUE
    QUEUE = queue


def put_into_queue(item: int) -> None:
    QUEUE.put(item)


def mark_at_exit(folder: str) -> None:
    """An initializer: multiprocessing's own way to have something done when a process ends."""
    multiprocessing.util.Finalize(None, Path(folder, str(os.getpid())).touch, exitpriority=1)
