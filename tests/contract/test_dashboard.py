"""Who can reach a dashboard, and when it ends. What is on it, tests/integration sees."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from hybridexec import HybridExecutor
from hybridexec.watching.page.dashboard import Dashboard

pytestmark = pytest.mark.slow_on("spawn", "fork")

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "bokeh, token",
}


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Dashboard]:
    with HybridExecutor(1) as executor:
        yield executor.dashboard()


def answer(url: str, path: str | None = None, **headers: str) -> http.client.HTTPResponse:
    """What comes of a request.

    Args:
        path: another than the address has.
        headers: with their names in lower case, and _ for -.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", parts.path if path is None else path, headers=named)
    response = connection.getresponse()
    if response.status != 101:
        response.read()
    connection.close()
    return response


def threads() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name == "hybridexec-dashboard"
    ]


def test_the_address_has_a_token_that_nobody_guesses(dashboard: Dashboard) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", dashboard.url)
    assert answer(dashboard.url).status == 200


@pytest.mark.parametrize("below", ["", "static/js/bokeh.min.js", "ws", "autoload.js", "metadata"])
@pytest.mark.parametrize("wrong", ["", "x/", "{token}x/", "x{token}/", "{short}/", "%2e/{token}/"])
def test_without_the_token_there_is_nothing(dashboard: Dashboard, wrong: str, below: str) -> None:
    token = urlsplit(dashboard.url).path.strip("/")
    path = "/" + wrong.format(token=token, short=token[:-1]) + below
    response = answer(dashboard.url, path, **(UPGRADE if below == "ws" else {}))
    assert response.status == 403
    assert token not in str(response.headers)


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_no_other_method_helps(dashboard: Dashboard, method: str) -> None:
    parts = urlsplit(dashboard.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    connection.request(method, "/x/")
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8787", 200),  # the near end of a tunnel
        ("rebound.example", 403),
        ("rebound.example:80", 403),
        ("127.0.0.1.rebound.example", 403),
        ("10.0.0.1", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_it_goes_by_its_own_names_only(dashboard: Dashboard, host: str, status: int) -> None:
    assert answer(dashboard.url, host=host).status == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (None, "http://{here}", 101),
        ("localhost:8787", "http://localhost:8787", 101),
        (None, "http://evil.example", 403),
        (None, "http://127.0.0.1:1", 403),
        (None, "http://localhost:8787", 403),
        (None, "null", 403),
        (None, "http://[", 403),
    ],
)
def test_no_other_page_may_use_its_websocket(
    dashboard: Dashboard, host: str | None, origin: str, status: int
) -> None:
    parts = urlsplit(dashboard.url)
    headers = UPGRADE | {"host": host or parts.netloc, "origin": origin.format(here=parts.netloc)}
    response = answer(dashboard.url, f"{parts.path}ws", **headers)
    assert response.status == status


def test_the_page_holds_nothing_of_the_request(dashboard: Dashboard) -> None:
    parts = urlsplit(dashboard.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", parts.path, headers={"Cookie": "other=secret", "X-Mine": "secret"})
    response = connection.getresponse()
    page = response.read().decode()
    assert "secret" not in page
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", page), (
        "all is served from here"
    )
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    connection.close()


def test_the_token_is_not_logged(dashboard: Dashboard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = urlsplit(dashboard.url).path
    assert answer(dashboard.url).status == 200
    assert answer(dashboard.url, f"{token}nothing").status == 404
    assert token.strip("/") not in caplog.text


def test_it_listens_on_this_machine_only(dashboard: Dashboard) -> None:
    port = urlsplit(dashboard.url).port
    listening = [
        each.laddr.ip
        for each in psutil.Process().net_connections()
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    ]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_machines_are_let_in_only_if_that_is_said(address: str) -> None:
    with HybridExecutor(1) as executor, pytest.raises(ValueError, match="allow_remote=True"):
        executor.dashboard(address=address)


def test_other_machines_are_let_in_if_that_is_said() -> None:
    with HybridExecutor(1) as executor:
        dashboard = executor.dashboard(address="0.0.0.0", allow_remote=True)
        parts = urlsplit(dashboard.url)
        assert parts.hostname == socket.gethostname().lower()
        here = f"http://127.0.0.1:{parts.port}{parts.path}"
        assert answer(here).status == 200
        assert answer(here, host="192.0.2.1:8787").status == 200
        assert answer(here, host=socket.gethostname()).status == 200
        assert answer(here, host="rebound.example").status == 403
        assert answer(here, "/").status == 403


def test_a_port_may_be_chosen() -> None:
    with socket.socket() as taken, HybridExecutor(1) as executor:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            executor.dashboard(port)
        taken.close()
        assert executor.dashboard(port).url.startswith(f"http://127.0.0.1:{port}/")


@pytest.mark.slow
def test_each_is_closed_by_itself() -> None:
    before = len(threads())
    with HybridExecutor(1) as executor, HybridExecutor(1) as other:
        first, second, third = executor.dashboard(), executor.dashboard(), other.dashboard()
        assert len({urlsplit(each.url).path for each in (first, second, third)}) == 3
        first.close()
        first.close()
        with pytest.raises(ConnectionRefusedError):
            answer(first.url)
        assert answer(second.url, urlsplit(third.url).path).status == 403
        assert answer(second.url).status == answer(third.url).status == 200
    assert len(threads()) == before, "the others have ended with their executors"


@pytest.mark.parametrize("called", [False, True])
def test_it_ends_with_its_executor(called: bool) -> None:
    before = len(threads())
    executor = HybridExecutor(1)
    dashboard = executor.dashboard()
    if called:
        assert executor.submit(abs, -1).result(timeout=30) == 1
    assert answer(dashboard.url).status == 200
    executor.shutdown()
    assert len(threads()) == before
    with pytest.raises(ConnectionRefusedError):
        answer(dashboard.url)
    with pytest.raises(RuntimeError, match=r"executor\.report\(\)"):
        executor.dashboard()
    assert len(threads()) == before


def test_it_does_not_keep_its_executor() -> None:
    before = len(threads())
    executor = HybridExecutor(1)
    assert executor.submit(abs, -1).result(timeout=30) == 1
    dashboard = executor.dashboard()
    del executor
    dashboard._thread.join(30)
    assert len(threads()) == before


def script(code: str, tmp_path: Path, *options: str) -> str:
    """What a program prints."""
    path = tmp_path / "program.py"
    path.write_text(code, encoding="utf-8")
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, *options, str(path)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


AT_EXIT = """
from hybridexec import HybridExecutor
if __name__ == "__main__":
    executor = HybridExecutor(1)
    dashboard = executor.dashboard()
    {call}
    print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", ["", "executor.submit(abs, -1).result()", "executor.shutdown(False)"]
)
def test_it_ends_with_the_process(call: str, tmp_path: Path) -> None:
    assert script(AT_EXIT.format(call=call), tmp_path) == "done"


IN_A_FORK = """
import os
import socket
import sys
from urllib.parse import urlsplit
from hybridexec import HybridExecutor
if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        dashboard = executor.dashboard()
        child = os.fork()
        if not child:
            dashboard.close()
            listening = [each for each in os.listdir("/proc/self/fd") if is_listening(int(each))]
            os._exit(len(listening))
        assert os.waitpid(child, 0)[1] == 0
        parts = urlsplit(dashboard.url)
        socket.create_connection((parts.hostname, parts.port)).close()
    print("done")
"""
IS_LISTENING = """
import socket
def is_listening(fd):
    try:
        with socket.socket(fileno=fd) as ours:
            return ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return False
"""


@pytest.mark.slow
def test_a_fork_of_the_process_has_none_of_it(tmp_path: Path) -> None:
    assert script(IS_LISTENING + IN_A_FORK, tmp_path, "-W", "ignore") == "done"


PATCHED = """
from gevent import monkey
monkey.patch_all()
import sys
from hybridexec import HybridExecutor
if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        executor.report(sys.argv[0] + ".html")
        try:
            executor.dashboard()
        except RuntimeError as error:
            print(error)
"""


@pytest.mark.slow
def test_where_gevent_has_patched_threads_there_is_the_report(tmp_path: Path) -> None:
    assert "executor.report() works here" in script(PATCHED, tmp_path)
    assert (tmp_path / "program.py.html").stat().st_size > 1_000_000


@pytest.mark.parametrize("name", ["dashboard", "report"])
def test_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from hybridexec import need

    monkeypatch.setattr(need.importlib.util, "find_spec", lambda library: None)
    arguments: list[Any] = ["run.html"] if name == "report" else []
    with (
        HybridExecutor(1) as executor,
        pytest.raises(ImportError, match=r"pip install 'hybridexec\[dashboard\]'"),
    ):
        getattr(executor, name)(*arguments)


@pytest.mark.slow
def test_a_view_has_its_executors(tmp_path: Path) -> None:
    with HybridExecutor(1) as executor:
        view = executor.options(timeout=5)
        view.report(tmp_path / "run.html")
        assert answer(view.dashboard().url).status == 200
