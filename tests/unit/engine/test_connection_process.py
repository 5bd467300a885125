"""A worker's process: its signals, its fault log, and dumps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from hybridexec.wire.page import DUMP_SIGNAL

from .connections import Ends

# -- the process ------------------------------------------------------------------------------


def test_a_signal_is_not_sent_to_a_process_that_has_ended(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    ends.connection.kill(signal.SIGTERM)
    assert sent == [(4711, signal.SIGTERM)]
    ends.connection.process.exitcode = 0
    ends.connection.kill(signal.SIGTERM)
    assert len(sent) == 1


def test_a_process_that_ends_at_the_same_moment_is_no_error(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    ends.connection.kill(signal.SIGTERM)


# -- the fault log ----------------------------------------------------------------------------


def test_the_fault_log_is_what_the_worker_wrote(ends: Ends) -> None:
    assert ends.connection.fault_log == ""
    os.write(ends.status_fd, b"Fatal Python error: ")
    os.write(ends.status_fd, b"\xff")
    assert ends.connection.fault_log == "Fatal Python error: \\xff"


def test_a_dump_that_was_taken_is_no_part_of_a_later_fault(ends: Ends) -> None:
    os.write(ends.status_fd, b"where it is")
    assert ends.connection.take_dump() == "where it is"
    assert ends.connection.fault_log == ""
    os.write(ends.status_fd, b"why it died")
    assert ends.connection.fault_log == "why it died"


CATCH = (
    f"import signal; signal.signal({DUMP_SIGNAL}, lambda number, frame: None)\nprint(flush=True)"
)


SPIN = "while True: pass"


WAIT = "input()"


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
@pytest.mark.parametrize(
    ("program", "state", "sent"),
    [
        pytest.param(f"{CATCH}\n{SPIN}", "R", True, id="runs"),
        pytest.param(f"{CATCH}\n{WAIT}", "S", False, id="waits"),
        pytest.param(f"print(flush=True)\n{SPIN}", "R", False, id="would-die"),
    ],
)
def test_a_dump_is_requested_only_where_that_does_no_harm(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, program: str, state: str, sent: bool
) -> None:
    signals: list[int] = []
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            ends.connection.pid = process.pid
            while ends.connection.state != state:
                assert process.poll() is None
            with monkeypatch.context() as patched:
                patched.setattr(os, "kill", lambda pid, number: signals.append(number))
                while not signals and sent:
                    ends.connection.request_dump()  # it may be about to wait for the CPU just now
                ends.connection.request_dump()
        finally:
            process.kill()
    assert bool(signals) is sent
    assert set(signals) <= {DUMP_SIGNAL}
    assert not ends.connection.killed


def test_it_is_known_whether_we_killed_it(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    ends.connection.kill(signal.SIGTERM)
    assert not ends.connection.killed
    ends.connection.kill(signal.SIGKILL)
    assert ends.connection.killed
