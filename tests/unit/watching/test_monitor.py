"""The socket: what it answers, and that nobody who is connected hurts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridexec.watching import client, monitor
from hybridexec.watching.client import Gone
from hybridexec.watching.monitor import Monitor

from .test_view import watched

PATIENCE = 30.0


@pytest.fixture
def running(runtime: Path) -> Iterator[Monitor]:
    made = Monitor(watched())
    made.begin()
    yield made
    made.end()
    wait_until(lambda: not threads())


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "hybridexec-monitor"]


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def connect(runtime: Path) -> socket.socket:
    (path,) = (runtime / "hybridexec").glob("*.sock")
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(path))
    return connection


def test_it_answers_with_a_view(running: Monitor) -> None:
    (process,) = client.find(os.getpid())
    assert process.pid == os.getpid()
    (executor,) = process.executors
    for _ in range(3):
        told = executor.ask("view")
        assert told["stats"]["queued"] == 11
        assert told["executor"] == executor.number
        assert "pytest" in told["program"] or "-c" in told["program"]
    process.close()


def test_what_it_does_not_understand_it_says(running: Monitor) -> None:
    (process,) = client.find(os.getpid())
    with pytest.raises(ValueError, match="the requests are: view, stacks"):
        process.executors[0].ask("shutdown")
    assert process.ask("view")
    process.close()


def test_what_goes_wrong_is_told_to_who_asked(runtime: Path) -> None:
    def fail() -> None:
        raise KeyError("of ours")

    made = Monitor(watched(stats=fail))
    made.begin()
    (process,) = client.find(os.getpid())
    with pytest.raises(ValueError, match="of ours"):
        process.ask("view")
    process.close()
    made.end()
    wait_until(lambda: not threads())


def test_several_requests_at_once_are_answered_in_turn(running: Monitor, runtime: Path) -> None:
    with connect(runtime) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"view\nview\nwhat\nvi")
        told = [json.loads(answers.readline()) for _ in range(3)]
        assert ["error" in each for each in told] == [False, False, True]
        connection.sendall(b"ew\n")
        assert "stats" in json.loads(answers.readline())


@pytest.mark.parametrize("rubbish", [b"x" * 1000, b"\xff\x00" * 500, b"GET / HTTP/1.1" * 20])
def test_who_sends_rubbish_is_dropped(running: Monitor, runtime: Path, rubbish: bytes) -> None:
    with connect(runtime) as connection:
        try:
            connection.sendall(rubbish)
            assert connection.recv(100) == b""
        except ConnectionError:  # what it did not read was thrown away
            pass
    (process,) = client.find(os.getpid())
    assert process.ask("view")
    process.close()


def test_who_does_not_read_keeps_nobody_waiting(
    running: Monitor, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"large": "x" * 4_000_000}
    monkeypatch.setattr(monitor, "view", lambda watched: large)
    with connect(runtime) as lazy:
        lazy.sendall(b"view\n" * 3)
        (process,) = client.find(os.getpid())
        assert process.ask("view")[0]["large"] == large["large"]
        kept = sum(len(each.unsent) for each in list(running._clients.values()))
        process.close()
        assert kept < 5_000_000, "one answer at most"


def test_who_never_ceases_to_ask_hides_neither_others_nor_the_end(
    running: Monitor, runtime: Path
) -> None:
    def read() -> None:
        with contextlib.suppress(ConnectionError):
            while greedy.recv(100_000):
                pass

    with connect(runtime) as greedy:
        greedy.sendall(b"view\n" * 6000)  # two minutes of answers
        reader = threading.Thread(target=read)
        reader.start()
        (process,) = client.find(os.getpid())
        assert process.ask("view")
        running.end()
        wait_until(lambda: not threads())
        reader.join(PATIENCE)
        process.close()


def test_who_hangs_makes_room_for_others(running: Monitor, runtime: Path) -> None:
    idle = [connect(runtime) for _ in range(40)]
    (process,) = client.find(os.getpid())
    assert process.ask("view")
    process.close()
    assert len(running._clients) <= 16
    for connection in idle:
        connection.close()
    wait_until(lambda: len(running._clients) == 0)


def test_who_leaves_early_sends_no_signal(
    running: Monitor, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in programs that end like a Unix filter does; it would end this one.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        for _ in range(3):
            with connect(runtime) as connection:
                connection.sendall(b"view\nview\n")
        (process,) = client.find(os.getpid())
        assert process.ask("view")
        process.close()
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_at_the_end_the_socket_is_gone(runtime: Path) -> None:
    made = Monitor(watched())
    made.end()  # before it began
    made = Monitor(watched())
    made.begin()
    (process,) = client.find(os.getpid())
    made.end()
    made.end()
    assert os.listdir(runtime / "hybridexec") == []
    with pytest.raises(Gone):
        process.executors[0].ask("view")
    assert process.ask("view") == []
    wait_until(lambda: not threads())
    assert client.find(os.getpid()) == []


def test_where_it_cannot_be_that_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise PermissionError("no")

    monkeypatch.setattr(monitor, "make_folder", refuse)
    made = Monitor(watched())
    made.begin()
    made.end()
    assert caplog.messages == ["this executor cannot be watched from outside: no"]
    assert not threads()


def test_sockets_of_the_dead_are_removed_by_who_looks(running: Monitor, runtime: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "hybridexec" / "999999-1.sock"))
        dead.listen()
    (process,) = client.find()
    assert process.pid == os.getpid()
    process.close()
    assert len(os.listdir(runtime / "hybridexec")) == 1


def test_a_forked_process_has_nothing_of_it(running: Monitor, runtime: Path) -> None:
    with connect(runtime) as connection:
        connection.sendall(b"view\n")
        assert connection.recv(10)
        child = os.fork()
        if not child:
            closed = 0
            try:
                before = len(os.listdir("/proc/self/fd"))
                running.let_go()
                closed = before - len(os.listdir("/proc/self/fd"))
            finally:
                os._exit(closed)
        # The folder, the pipe's two ends, the listener, the poller, and the connection.
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
    (process,) = client.find(os.getpid())
    assert process.ask("view"), "the parent's goes on"
    process.close()


@pytest.mark.parametrize(("peer", "may"), [(0, True), (4, True), (5, False)])
def test_other_users_may_not_ask(monkeypatch: pytest.MonkeyPatch, peer: int, may: bool) -> None:
    ours, theirs = socket.socketpair()
    asking = monitor._Client(ours.detach())
    told = SimpleNamespace(calcsize=struct.calcsize, unpack=lambda form, data: (1, peer, 1))
    monkeypatch.setattr(monitor, "struct", told)
    monkeypatch.setattr(monitor.os, "geteuid", lambda: 4)
    assert asking.may_ask() is may
    asking.close()
    theirs.close()
