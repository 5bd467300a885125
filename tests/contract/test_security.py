"""What docs/security.md says of sockets, files, descriptors and privileges, seen from outside."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hybridexec import HybridExecutor
from hybridexec.wire.page import create_fd

from .conftest import make_executor
from .helpers import Gate, identity, pid_of, square, wait_until

pytestmark = pytest.mark.slow_on("spawn")

#: The flag of a listening socket in /proc/net/unix.
_ACCEPTS = 0x00010000


class Family:
    """An executor with two workers that are busy, and the processes that belong to it."""

    def __init__(self, method: str, gate: Gate) -> None:
        #: Whatever this process had before, and what is inheritable: what `fork` passes on.
        self.pipes_before = set(_pipes("self"))
        self.sockets_before = _sockets("self")
        others = set(psutil.Process().children(recursive=True))  # servers of other tests
        self.executor: HybridExecutor = make_executor(method, max_workers=2, concurrency=1)
        self.calls = [self.executor.submit(gate.wait, n) for n in range(2)]
        gate.wait_for(2)
        self.workers = [worker.pid for worker in self.executor.stats().workers if worker.pid]
        assert len(self.workers) == 2
        family = set(psutil.Process().children(recursive=True)) - others
        children = [child.pid for child in family]
        self.pids = [os.getpid(), *children]
        self.others = [pid for pid in children if pid not in self.workers]


@pytest.fixture(params=["forkserver", "spawn"])
def family(request: pytest.FixtureRequest, gate: Gate) -> Iterator[Family]:
    # The resource tracker is one for all executors, and stays.
    with make_executor(request.param, max_workers=1) as warm_up:
        warm_up.submit(square, 1).result(timeout=30)
    family = Family(request.param, gate)
    yield family
    gate.open()
    family.executor.shutdown()


# -- what the checks see --------------------------------------------------------------------------


def _links(pid: int | str) -> dict[int, str]:
    """What each descriptor of a process is."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
    return found


def _pipes(pid: int | str) -> dict[str, set[int]]:
    """The pipes a process holds, and by which ends (os.O_RDONLY, os.O_WRONLY)."""
    found: dict[str, set[int]] = {}
    for fd, link in _links(pid).items():
        if link.startswith("pipe:"):
            info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
            flags = int(info.partition("flags:")[2].split()[0], 8)
            found.setdefault(link, set()).add(flags & os.O_ACCMODE)
    return found


def _sockets(pid: int | str) -> set[str]:
    """The inodes of a process's sockets."""
    links = _links(pid).values()
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def _reachable_sockets() -> set[str]:
    """The inodes of all sockets that somebody else could connect or send to."""
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        path = Path("/proc/net", name)
        if path.exists():
            found |= {line.split()[9] for line in path.read_text().splitlines()[1:]}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        # A path, or an abstract name, makes an eighth field.
        if int(fields[3], 16) & _ACCEPTS or len(fields) > 7:
            found.add(fields[6])
    return found


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX])
def test_the_check_sees_a_listening_socket(kind: socket.AddressFamily, tmp_path: Path) -> None:
    with socket.socket(kind) as listener:
        listener.bind(("127.0.0.1", 0) if kind == socket.AF_INET else str(tmp_path / "socket"))
        listener.listen()
        assert _sockets("self") & _reachable_sockets()


# -- what must hold -------------------------------------------------------------------------------


def test_no_process_has_a_socket_that_others_can_reach(family: Family) -> None:
    for pid in family.pids:
        own = _sockets(pid) - family.sockets_before
        assert not own & _reachable_sockets(), psutil.Process(pid).cmdline()


def test_a_workers_one_socket_is_its_own(family: Family) -> None:
    """An end of a pair, so that nobody can connect to it; your process has the other."""
    for pid in family.workers:
        (socket,) = _sockets(pid) - family.sockets_before
        assert socket not in _reachable_sockets()
        assert not any(socket in _sockets(other) for other in family.pids if other != pid)


def test_no_worker_holds_a_pipe_of_another(family: Family) -> None:
    first, second = (set(_pipes(pid)) - family.pipes_before for pid in family.workers)
    (lifeline,) = first & second
    assert all(_pipes(pid)[lifeline] == {os.O_RDONLY} for pid in family.workers)


def test_each_pipe_is_held_by_its_two_ends_only(family: Family) -> None:
    """So the worker sees when the parent is gone, and nobody else can write to either."""
    mine = _pipes("self")
    lifelines = set.intersection(*(set(_pipes(pid)) for pid in family.workers))
    shared = 0
    for pid in family.workers:
        for pipe, ends in _pipes(pid).items():
            if pipe in family.pipes_before or pipe in lifelines or pipe not in mine:
                continue
            shared += 1
            assert len(ends) == 1
            assert mine[pipe] - ends, f"{pipe}: the other end is not here"
            assert os.O_WRONLY not in ends & mine[pipe], f"{pipe} is written to on both sides"
            assert not any(pipe in _pipes(other) for other in family.others)
    assert shared >= 6, "three pipes at least for each worker"


def test_a_worker_holds_no_file_of_the_parents(tmp_path: Path) -> None:
    """Not even one that other children would inherit."""
    for method in ("forkserver", "spawn"):
        with (tmp_path / "secret").open("w") as secret:
            os.set_inheritable(secret.fileno(), True)
            with make_executor(method, max_workers=1) as executor:
                links = executor.submit(_links, "self").result(timeout=30)
        assert str(tmp_path / "secret") not in links.values()
        # Names in the file system: standard streams, the interpreter's null device, no more.
        own = {link for fd, link in links.items() if fd > 2 and link.startswith("/")}
        assert {link for link in own if "memfd:" not in link} <= {"/dev/null"} | _proc(links)


def _proc(links: dict[int, str]) -> set[str]:
    """The listing's own descriptor."""
    return {link for link in links.values() if link.startswith("/proc/")}


def test_no_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for method in ("forkserver", "spawn"):
        shared = _shared_memory()
        with make_executor(method) as executor:
            list(executor.map(square, range(100)))
            assert len(executor.submit(bytes, 1_000_000).result(timeout=30)) == 1_000_000
            assert list(tmp_path.iterdir()) == []
            ours = _shared_memory() - shared  # other programs' come and go
            wait_until(lambda ours=ours: not ours & _shared_memory())


def _shared_memory() -> set[str]:
    """Segments in /dev/shm; semaphores are other programs'."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}


STRANGER = """
import os, sys
opened = []
for pid in sys.argv[1:]:
    for folder in ("fd", "map_files"):
        try:
            names = os.listdir(f"/proc/{pid}/{folder}")
        except PermissionError:
            continue
        for name in names:
            opened.append(f"/proc/{pid}/{folder}/{name}")
print(opened)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_can_open_nothing_of_it(family: Family) -> None:
    pids = [str(pid) for pid in family.pids]
    # The interpreter may be in a folder of root's: it is run by whoever can, and then changes.
    program = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)" + STRANGER
    command = [sys.executable, "-c", program, *pids]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_memfd_the_status_page_is_for_its_owner_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = create_fd(1)
    try:
        status = os.fstat(fd)
        assert (status.st_mode & 0o077, status.st_nlink) == (0, 0)
    finally:
        os.close(fd)


def _credentials() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), os.getgroups()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_worker_has_the_parents_privileges_and_environment(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDEXEC_TEST_SECRET", "inherited")
    with make_executor(method, max_workers=1) as executor:
        assert executor.submit(_credentials).result(timeout=30) == _credentials()
        got = executor.submit(os.environ.get, "HYBRIDEXEC_TEST_SECRET").result(timeout=30)
        assert got == "inherited"


class Tattle:
    """Tells in which process and thread it was unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled_in, ()


def _unpickled_in() -> int:
    return os.getpid()


def test_payloads_are_unpickled_by_parent_and_worker_only() -> None:
    """The fork server, which outlives workers and makes new ones, sees no payload."""
    with make_executor("forkserver", max_workers=1) as executor:
        worker = executor.submit(pid_of).result(timeout=30)
        argument = executor.submit(identity, Tattle()).result(timeout=30)
        assert argument == worker
        assert executor.submit(Tattle).result(timeout=30) == os.getpid()


def start_program() -> list[str]:
    """What a program gets that a call starts without closing anything."""
    command = [sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"]
    listing = subprocess.run(command, close_fds=False, capture_output=True, check=True).stdout
    return ast.literal_eval(listing.decode())


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_program_that_a_call_starts_gets_nothing_of_its_worker(method: str) -> None:
    """It would keep the worker's pipes open, and hide its death."""
    with make_executor(method, max_workers=1) as executor:
        listed = executor.submit(start_program).result(timeout=30)
    assert set(listed) - {"0", "1", "2"} == {"3"}, "but for the listing's own"
