"""Blocking clients against real servers: hundreds at once on two workers, http and https."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path

import loopback_clients
import pytest
import requests
import urllib3
from loopback_server import Server

from hybridexec import HybridExecutor

CALLS = 300
PATIENCE = 60


def results(futures: list[Future]) -> list:
    wait(futures, timeout=PATIENCE)
    return [future.result(timeout=0) for future in futures]


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue("plain_server" if request.param == "http" else "tls_server")


@pytest.mark.slow
@pytest.mark.parametrize("client", loopback_clients.CLIENTS, ids=lambda client: client.__name__)
def test_hundreds_of_calls_wait_for_each_other(
    executor: HybridExecutor, server: Server, client: Callable[[Server, str], str]
) -> None:
    """The server answers none before all have asked."""
    server.peak()
    futures = [executor.submit(client, server, f"/together/{CALLS}") for _ in range(CALLS)]
    assert results(futures) == ["met"] * CALLS
    assert server.peak() == CALLS


def test_map_waits_on_hundreds_at_once(executor: HybridExecutor, plain_server: Server) -> None:
    path = f"/together/{CALLS}"
    plain_server.peak()
    found = executor.map(
        loopback_clients.get_by_session, [plain_server] * CALLS, [path] * CALLS, timeout=PATIENCE
    )
    assert list(found) == ["met"] * CALLS


@pytest.mark.slow
def test_a_session_kept_per_thread_is_reused(executor: HybridExecutor, server: Server) -> None:
    bodies = [bytes([number % 256]) * 1000 for number in range(2000)]
    found = list(executor.map(loopback_clients.post_by_session, [server] * 2000, bodies))
    assert [body for body, _ in found] == bodies
    sessions = {session for _, session in found}
    assert len(sessions) <= 400  # the slots of both workers


def test_megabytes_over_many_connections(executor: HybridExecutor, server: Server) -> None:
    bodies = [os.urandom(2**20) for _ in range(20)]
    futures = [executor.submit(loopback_clients.post_by_session, server, body) for body in bodies]
    assert [body for body, _ in results(futures)] == bodies


@pytest.mark.parametrize(
    ("client", "error"),
    [
        ("requests", requests.exceptions.SSLError),
        ("urllib3", urllib3.exceptions.SSLError),
        ("http.client", ssl.SSLCertVerificationError),
    ],
)
def test_an_unknown_authority_is_refused(
    executor: HybridExecutor, tls_server: Server, client: str, error: type[Exception]
) -> None:
    failure = executor.submit(loopback_clients.get_unverified, tls_server, client).exception(30)
    assert type(failure) is error
    assert "CERTIFICATE_VERIFY_FAILED" in str(failure)


def test_a_call_that_waits_for_a_server_is_cancelled(
    executor: HybridExecutor, server: Server
) -> None:
    server.peak()
    paths = ["/together/1000000"] * 20
    futures = [executor.submit(loopback_clients.get_by_session, server, path) for path in paths]
    wait(futures, timeout=0.5)
    assert all(future.cancel() for future in futures)
    # The sessions that were in use are of use again.
    path = f"/together/{CALLS}"
    futures = [executor.submit(loopback_clients.get_by_session, server, path) for _ in range(CALLS)]
    assert results(futures) == ["met"] * CALLS


def test_a_timeout_ends_a_call_that_waits_for_a_server(
    executor: HybridExecutor, server: Server
) -> None:
    hurried = executor.options(timeout=0.3)
    future = hurried.submit(loopback_clients.get_by_requests, server, "/together/1000000")
    with pytest.raises(TimeoutError):
        future.result(timeout=PATIENCE)


SCRIPT = """
import sys
import requests
import urllib3
from hybridexec import HybridExecutor

URL, AUTHORITY, COUNT, METHOD = sys.argv[1:]

def by_requests(number):
    return requests.get(URL, verify=AUTHORITY, timeout=60).text

def by_urllib3(number, pool=urllib3.PoolManager(maxsize=500, ca_certs=AUTHORITY)):
    return pool.request("GET", URL, timeout=60).data.decode()

if __name__ == "__main__":
    import multiprocessing
    context = multiprocessing.get_context(METHOD)
    with HybridExecutor(2, context, concurrency=200) as executor:
        for fetch in (by_requests, by_urllib3):
            print(fetch.__name__, set(executor.map(fetch, range(int(COUNT)))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_script_with_requests_imported_at_its_top(
    method: str, tls_server: Server, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    url = f"{tls_server.url}/together/{CALLS}"
    arguments = [url, str(tls_server.authority), str(CALLS), method]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["by_requests {'met'}", "by_urllib3 {'met'}"]
