"""What the errors say of dead workers."""

from __future__ import annotations

import errno
import signal
from typing import Any

import pytest

from hybridexec.errors import WorkerLost
from hybridexec.parent.launch import exit_errors
from hybridexec.process import Process


def lost(
    code: int | None = -9,
    running: int = 1,
    calls: tuple[str, ...] = ("f(1)",),
    goes_on: bool = True,
    node: str = "",
    **how: Any,
) -> WorkerLost:
    death = exit_errors.Death(7, code, **how)
    return exit_errors.lost(death, running, calls, goes_on=goes_on, node=node)


def test_one_call_is_not_listed() -> None:
    assert str(lost(code=3)) == (
        "worker process 7 died (exit code 3) while it was running this call; "
        "the call may have run, the executor goes on"
    )


def test_others_are_listed() -> None:
    text = str(lost(code=3, running=2, calls=("f(1)", "g(2)"), goes_on=False))
    assert text == (
        "worker process 7 died (exit code 3) while it was running this call, and 1 other; "
        "the call may have run. It was running: f(1), g(2)"
    )


def test_the_machine_is_named_if_it_is_another() -> None:
    assert "worker process 7 on node b died (exit code 3) while" in str(lost(3, node="b"))


def test_a_kill_that_was_not_ours_may_be_the_systems() -> None:
    assert "killed by SIGKILL, by the system if memory ran out" in str(lost(-9))
    assert "memory" not in str(lost(-9, by_us=True))
    assert "memory" not in str(lost(-15))


@pytest.mark.parametrize(
    ("code", "name"),
    [(-signal.SIGSEGV, "SIGSEGV"), (-200, "signal 200"), (0, None), (3, None), (None, None)],
)
def test_the_signal_has_its_name(code: int | None, name: str | None) -> None:
    assert lost(code).signal == name


def test_what_faulthandler_wrote_is_a_note_if_it_did() -> None:
    assert not hasattr(lost(), "__notes__")
    (note,) = lost(fault_log="Fatal Python error: Aborted").__notes__
    assert note.endswith("Fatal Python error: Aborted")
    death = exit_errors.Death(7, -11, "Fatal Python error: Segmentation fault")
    broken = exit_errors.never_ready(death)
    assert "Segmentation fault" in broken.__notes__[0]


def test_what_the_system_lacks_has_a_remedy() -> None:
    assert "ulimit -n" in exit_errors.refusal(OSError(errno.EMFILE, "Too many open files"))
    assert "more memory" in exit_errors.refusal(OSError(errno.ENOMEM, "no"))
    assert exit_errors.refusal(OSError("on node b: it")) == "OSError: on node b: it"
    assert exit_errors.refusal(ValueError("no")) == "ValueError: no"


def test_a_missing_module_has_a_remedy_on_a_node() -> None:
    trace = "Traceback:\nModuleNotFoundError: No module named 'x'\n"
    far = str(exit_errors.failed(Process(7, "b"), "initializer", trace))
    assert "in worker process 7 on node b: ModuleNotFoundError: No module named 'x'. " in far
    assert "PipInstall" in far
    near = str(exit_errors.failed(Process(7), "initializer", trace))
    assert near.endswith("No module named 'x'")
