"""monitor=True: others of the same user may look, as long as the executor is there; nobody else."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from hybridexec import HybridExecutor
from hybridexec.watching import client

from .conftest import Make
from .helpers import Gate, identity, start_script, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the user's runtime directory."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def sockets(runtime: Path) -> list[str]:
    folder = runtime / "hybridexec"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_one_may_look_from_the_first_call_to_the_end(
    make_each: Make, gate: Gate, runtime: Path
) -> None:
    executor = make_each(monitor=True, max_workers=2, concurrency=3)
    assert sockets(runtime) == []
    call = executor.submit(gate.wait, 1)
    gate.wait_for(1)
    (process,) = client.find(os.getpid())
    (view,) = process.ask("view")
    assert (view["stats"]["running"], view["slots"]["greenlet"], view["state"]) == (1, 3, "running")
    gate.open()
    call.result(timeout=30)
    executor.shutdown()
    assert sockets(runtime) == []
    wait_until(lambda: process.ask("view") == [])


def test_two_executors_are_two(make: Make, runtime: Path) -> None:
    for _ in range(2):
        make(monitor=True).submit(identity, 1).result(timeout=30)
    (process,) = client.find()
    assert len({view["executor"] for view in process.ask("view")}) == 2
    process.close()


@pytest.mark.parametrize(("said", "shown"), [("1", 1), ("0", 0), ("", 0)])
def test_the_environment_may_allow_it(
    make: Make, runtime: Path, monkeypatch: pytest.MonkeyPatch, said: str, shown: int
) -> None:
    monkeypatch.setenv("HYBRIDEXEC_MONITOR", said)
    make().submit(identity, 1).result(timeout=30)
    assert len(sockets(runtime)) == shown
    before = sockets(runtime)
    make(monitor=False).submit(identity, 1).result(timeout=30)
    assert sockets(runtime) == before


def test_it_is_asked_for_in_so_many_words() -> None:
    with pytest.raises(TypeError, match="monitor must be True, False or None, not str"):
        HybridExecutor(monitor="yes")  # type: ignore[arg-type]


def test_an_executor_that_is_collected_takes_its_socket_along(make: Make, runtime: Path) -> None:
    executor = HybridExecutor(1, monitor=True)
    executor.submit(identity, 1).result(timeout=30)
    assert len(sockets(runtime)) == 1
    del executor
    wait_until(lambda: not sockets(runtime))


def test_no_child_holds_it(make_each: Make, gate: Gate, runtime: Path) -> None:
    executor = make_each(monitor=True, max_workers=1)
    executor.submit(identity, 1).result(timeout=30)
    # The second worker is started when the socket is there.
    with make_each(max_workers=1) as other:
        pids = [other.submit(os.getpid).result(timeout=30)]
    pids = [executor.submit(os.getpid).result(timeout=30)]
    (path,) = (runtime / "hybridexec").glob("*.sock")
    with open("/proc/net/unix") as table:
        (inode,) = [line.split()[6] for line in table if path.name in line and "00010000" in line]
    for pid in pids:
        held = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # it looks at its memory now and then
                held.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        assert f"socket:[{inode}]" not in held
    child = os.fork()
    if not child:
        try:
            held = []
            for fd in os.listdir("/proc/self/fd"):
                try:
                    held.append(os.readlink(f"/proc/self/fd/{fd}"))
                except OSError:
                    pass
            code = 1 + (f"socket:[{inode}]" in held)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


SCRIPT = """
import os, sys, time
{first}
from hybridexec import HybridExecutor
if __name__ == "__main__":
    with HybridExecutor(1, monitor=True) as executor:
        executor.submit(int).result()
        print("ready", flush=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
"""


@pytest.mark.parametrize("first", ["", "from gevent import monkey; monkey.patch_all()"])
def test_it_is_gone_at_the_programs_end(tmp_path: Path, runtime: Path, first: str) -> None:
    script, go = tmp_path / "s.py", tmp_path / "go"
    with start_script(script, SCRIPT.format(first=first), go) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (found,) = client.find(process.pid)
        assert found.ask("view")[0]["stats"]["finished"] == 1
        go.touch()
        assert process.wait(30) == 0
        found.close()
    assert sockets(runtime) == []


def test_what_a_killed_program_leaves_is_removed_by_who_looks(
    tmp_path: Path, runtime: Path
) -> None:
    with start_script(tmp_path / "s.py", SCRIPT.format(first=""), tmp_path / "never") as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(sockets(runtime)) == 1
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        wait_until(lambda: client.find() == [])
    assert sockets(runtime) == []


def first_bytes_as_another_user(path: Path) -> int:
    """How many bytes of an answer another user gets; 13 (EACCES) + 100 if it cannot connect."""
    child = os.fork()
    if not child:
        code = 99
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                try:
                    connection.sendall(b"view\n")
                    code = len(connection.recv(10))
                except ConnectionError:
                    code = 0
        except OSError as error:
            code = 100 + (error.errno or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_gets_nothing_even_if_the_folder_is_opened(make: Make) -> None:
    # Its parents may be entered by anybody, as those of a real one.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        os.chmod(folder, 0o755)
        patch.setenv("XDG_RUNTIME_DIR", folder)
        make(monitor=True).submit(identity, 1).result(timeout=30)
        (path,) = Path(folder, "hybridexec").glob("*.sock")
        assert first_bytes_as_another_user(path) == 100 + errno.EACCES
        path.chmod(0o777)
        path.parent.chmod(0o777)
        assert first_bytes_as_another_user(path) == 0
        # And nobody looks into a folder that others can enter.
        assert client.find() == []
