"""How one gets to a cluster, and what is said when that does not go well."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from dask import config
from distributed import Client
from distributed.security import Security

import hybridexec
from hybridexec.cluster import ClusterExecutor

from . import calls
from .certificates import Certificates
from .conftest import Connect, MakeDask
from .dasks import HOST, Dask
from .processes import PATIENCE, wait_until
from .scripts import run, start


def test_by_scheduler_file(dask: Dask) -> None:
    with ClusterExecutor(scheduler_file=dask.scheduler_file) as executor:
        assert executor.submit(calls.double, 1).result(30) == 2


def test_by_the_scheduler_that_dask_s_configuration_names(dask: Dask) -> None:
    with config.set({"scheduler-address": dask.address}), ClusterExecutor() as executor:
        assert executor.submit(calls.double, 1).result(30) == 2


def test_a_file_that_is_half_written_is_read_when_it_is_whole(dask: Dask, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp:')
    writing = threading.Timer(0.3, file.write_text, [dask.scheduler_file.read_text()])
    writing.start()
    with ClusterExecutor(scheduler_file=file) as executor:
        assert executor.submit(calls.double, 1).result(30) == 2
    writing.join()


def test_by_a_client_which_goes_on(dask: Dask) -> None:
    with Client(dask.address, set_as_default=False) as client:
        with ClusterExecutor(client) as executor:
            assert executor.submit(calls.double, 1).result(30) == 2
        assert client.submit(pow, 2, 3).result(30) == 8


@pytest.mark.slow
def test_a_cluster_of_its_own_ends_with_it() -> None:
    with ClusterExecutor.local(nodes=2) as executor:
        assert len(executor.stats().nodes) == 2, "they are there from the beginning"
        found: set[int] = set()

        def all_run_calls() -> bool:
            found.update(executor.map(parent_of, [0.2] * 20))
            return len(found) == 2

        wait_until(all_run_calls, "both, whose workers are there one after the other")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), "nodes end")
    with contextlib.ExitStack() as files:  # which may have the numbers of what was closed
        opened = [files.enter_context(open(os.devnull)) for _ in range(50)]
        executor.shutdown()
        assert [os.fstat(file.fileno()).st_rdev for file in opened]


FORK = """
    import os, sys, time
    from pathlib import Path
    import psutil
    from hybridexec.cluster import ClusterExecutor

    def parent_of():
        return psutil.Process(os.getppid()).ppid()

    if __name__ == "__main__":
        with ClusterExecutor.local(nodes=1) as executor:
            call = executor.submit(time.sleep, 1)
            node = executor.submit(parent_of).result()
            if (child := os.fork()) == 0:
                executor.shutdown()
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), call.result())
            print(len(list(Path(sys.argv[1]).glob("hybridexec-cluster-*/node-1"))))
            if os.fork() == 0:
                sys.stdin.read()
                os._exit(0)
            print(node, flush=True)
            os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_fork_neither_ends_a_cluster_of_its_own_nor_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start(tmp_path, FORK, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "7 None\n"
        assert process.stdout.readline() == "1\n"
        node = Path(f"/proc/{int(process.stdout.readline())}")
        assert process.wait(PATIENCE) == -signal.SIGKILL
        wait_until(lambda: not node.exists(), "the node ends")


def parent_of(seconds: float) -> int:
    """The process that the worker's fork server, and so all of the node, is in."""
    import os

    import psutil

    time.sleep(seconds)
    return psutil.Process(os.getppid()).ppid()


def test_tls(tls_dask: Dask) -> None:
    assert tls_dask.address.startswith("tls://")
    with ClusterExecutor(tls_dask.address, security=tls_dask.security) as executor:
        assert list(executor.map(calls.double, range(100))) == [*range(0, 200, 2)]


def test_tls_by_a_client(tls_dask: Dask) -> None:
    with (
        Client(tls_dask.address, security=tls_dask.security, set_as_default=False) as client,
        ClusterExecutor(client) as executor,
    ):
        assert executor.submit(calls.double, 1).result(30) == 2


def strangers_security(folder: Path) -> Security:
    return Certificates(folder / "stranger").security


def test_a_stranger_s_certificate_is_refused(tls_dask: Dask, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"(?i)certificate|ssl|tls"):
        ClusterExecutor(tls_dask.address, security=strangers_security(tmp_path), cluster_timeout=3)


def test_no_certificate_where_one_is_asked_for(tls_dask: Dask) -> None:
    with pytest.raises(ValueError, match=r"is reached by TLS.*security="):
        ClusterExecutor(tls_dask.address, cluster_timeout=3)


def test_tcp_where_the_scheduler_speaks_tls(tls_dask: Dask) -> None:
    with pytest.raises(OSError, match=r"tcp://"):
        ClusterExecutor(tls_dask.address.replace("tls", "tcp"), cluster_timeout=3)


def test_nobody_there_is_said_in_time() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        address = f"tcp://{HOST}:{unused.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(OSError, match=address):
            ClusterExecutor(address, cluster_timeout=2)
        assert time.monotonic() - began < 10


def test_who_does_not_get_in_leaves_no_thread(tls_dask: Dask, tmp_path: Path) -> None:
    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "IO loop"}

    before = threads()
    errors = []
    for address, security in [
        (f"tcp://{HOST}:9", None),
        (tls_dask.address, strangers_security(tmp_path)),
    ]:
        with pytest.raises(OSError, match=r"TLS|Timed out") as caught:
            ClusterExecutor(address, security=security, cluster_timeout=1)
        errors.append(caught.value)  # what it knows is not collected
    wait_until(lambda: threads() <= before, "the threads end")


def test_no_scheduler_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.json"):
        ClusterExecutor(scheduler_file=tmp_path / "missing.json", cluster_timeout=1)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(OSError, match=r"other\.json"):
        ClusterExecutor(scheduler_file=tmp_path / "other.json", cluster_timeout=1)


def test_a_file_that_names_tls_needs_a_certificate(tls_dask: Dask) -> None:
    with pytest.raises(ValueError, match=r"is reached by TLS.*security="):
        ClusterExecutor(scheduler_file=tls_dask.scheduler_file)


def test_tls_where_the_scheduler_speaks_tcp(dask: Dask, tls_dask: Dask, tmp_path: Path) -> None:
    own = tls_dask.security
    done = run(  # in a process of its own: Tornado may leave a socket there
        tmp_path,
        """
        import sys
        from distributed import Security
        from hybridexec.cluster import ClusterExecutor

        names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
        security = Security(**dict(zip(names, sys.argv[2:])))
        try:
            ClusterExecutor(sys.argv[1], security=security, cluster_timeout=5)
        except OSError as error:
            print(error)
        """,
        dask.address.replace("tcp", "tls"),
        *(own.tls_ca_file, own.tls_client_cert, own.tls_client_key),
    )
    assert "a scheduler that speaks TLS begins with tls://" in done.stdout


def test_one_cluster_has_to_be_named(dask: Dask) -> None:
    with pytest.raises(ValueError, match=r"which cluster\?.*ClusterExecutor\.local\(\)"):
        ClusterExecutor()
    with pytest.raises(ValueError, match="not both"):
        ClusterExecutor(dask.address, scheduler_file=dask.scheduler_file)


def test_what_is_no_cluster_is_refused(dask: Dask) -> None:
    with pytest.raises(TypeError, match=r"an address, a distributed\.Client or a cluster.*int"):
        ClusterExecutor(5)
    client = Client(dask.address, set_as_default=False)
    client.close()
    with pytest.raises(ValueError, match=r"distributed\.Client is closed"):
        ClusterExecutor(client)
    with pytest.raises(ValueError, match="nodes must be greater than 0"):
        ClusterExecutor.local(nodes=0)


@pytest.mark.parametrize("patched", ["", "thread=False, socket=False"])
def test_a_patched_process_is_refused(dask: Dask, tmp_path: Path, patched: str) -> None:
    done = run(
        tmp_path,
        f"""
        from gevent import monkey
        monkey.patch_all({patched})
        import sys
        from hybridexec.cluster import ClusterExecutor

        try:
            ClusterExecutor(sys.argv[1])
        except RuntimeError as error:
            print(error)
        try:
            ClusterExecutor.local()
        except RuntimeError as error:
            print(error)
        """,
        dask.address,
    )
    assert done.stdout.count("gevent has not patched") == 2


@pytest.mark.slow
def test_a_module_that_nodes_lack_is_named(make_dask: MakeDask, connect: Connect) -> None:
    dask = make_dask()
    dask.start_node(path=())
    dask.wait()
    error = connect(dask).submit(calls.double, 1).exception(30)
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    assert "cluster" in text
    assert "upload_file" in text
    assert "PipInstall" in text


@pytest.mark.slow
def test_a_module_that_was_uploaded_is_found(
    make_dask: MakeDask, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "client" / "uploaded_module.py"
    module.parent.mkdir()
    module.write_text("def triple(number):\n    return 3 * number\n")
    monkeypatch.syspath_prepend(module.parent)
    import uploaded_module

    dask = make_dask(1)
    with Client(dask.address, set_as_default=False) as client:
        client.upload_file(str(module))
    assert list(connect(dask).map(uploaded_module.triple, range(3))) == [0, 3, 6]


def other_hybridexec(folder: Path, version: str) -> Path:
    """A folder with this package in another version."""
    package = Path(hybridexec.__file__).parent
    folder.mkdir()
    shutil.copytree(package, folder / "hybridexec", ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "hybridexec" / "__init__.py"
    text = init.read_text("utf-8")
    assert f'"{hybridexec.__version__}"' in text
    init.write_text(text.replace(f'"{hybridexec.__version__}"', f'"{version}"'), "utf-8")
    return folder


@pytest.mark.slow
def test_another_version_on_the_nodes_is_named(make_dask: MakeDask, tmp_path: Path) -> None:
    dask = make_dask()
    dask.start_node(path=(other_hybridexec(tmp_path / "other", "99.1"),))
    dask.wait()
    with pytest.raises(RuntimeError, match="hybridexec") as caught:
        ClusterExecutor(dask.address)
    assert "99.1" in str(caught.value)
    assert hybridexec.__version__ in str(caught.value)


@pytest.mark.slow
def test_nodes_of_the_right_version_are_used_beside_others(
    make_dask: MakeDask, connect: Connect, tmp_path: Path
) -> None:
    dask = make_dask(1)
    dask.start_node(path=(other_hybridexec(tmp_path / "other", "99.1"),))
    dask.wait()
    executor = connect(dask)
    assert {node for node, _ in executor.map(calls.nap_where, [0.05] * 50)} == {dask.nodes[0].name}


def no_hybridexec(folder: Path) -> Path:
    """A folder that makes it look as if this package were not installed."""
    package = folder / "hybridexec"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'hybridexec'\", name='hybridexec')"
    )
    return folder


@pytest.mark.slow
def test_nodes_without_the_package_are_told_how_to_get_it(
    make_dask: MakeDask, tmp_path: Path
) -> None:
    without = no_hybridexec(tmp_path / "empty")
    dask = make_dask()
    dask.start_node(path=(without,))
    dask.wait()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"No module named.*hybridexec\[cluster\]"):
            ClusterExecutor(dask.address)
    dask.start_node(path=(without,))  # which others may have a use for
    dask.wait()
    shutil.rmtree(without)  # it is there then
    with ClusterExecutor(dask.address) as executor:
        assert executor.submit(pow, 2, 3).result(30) == 8


@pytest.mark.slow
def test_nodes_that_have_the_package_are_used_beside_others(
    make_dask: MakeDask, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dask = make_dask(1)
    dask.start_node(path=(no_hybridexec(tmp_path / "empty"),))
    dask.wait()
    with ClusterExecutor(dask.address) as executor:
        assert executor.submit(calls.double, 1).result(30) == 2
    assert "cannot be used: ModuleNotFoundError" in caplog.text, "though it has ended at once"


@pytest.mark.slow
def test_nodes_with_a_nanny(make_dask: MakeDask, connect: Connect) -> None:
    # A process that a nanny has started may have no children that multiprocessing starts.
    dask = make_dask()
    dask.start_node(nanny=True)
    dask.wait()
    executor = connect(dask)
    assert list(executor.map(calls.double, range(100))) == [*range(0, 200, 2)]


def test_lacking_distributed_names_the_extra(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys
        sys.modules["distributed"] = None

        try:
            from hybridexec.cluster import ClusterExecutor
            ClusterExecutor("tcp://127.0.0.1:1")
        except ImportError as error:
            print(error)
        """,
    )
    assert "hybridexec[cluster]" in done.stdout
