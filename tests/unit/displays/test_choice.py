"""What may be asked for, and what that imports."""

from __future__ import annotations

import io
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import tqdm
import tqdm.auto

from hybridexec.displays.bars import Bar
from hybridexec.displays.choice import maker
from hybridexec.displays.texts import Line, Told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def made(progress: object) -> Any:
    make = maker(progress, "fetch")
    assert make is not None
    return make(10)


def test_none_and_false_show_nothing() -> None:
    assert maker(None, "fetch") is maker(False, "fetch") is None


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [io.StringIO(), None, object(), closed()])
def test_true_is_quiet_where_nobody_sees_it(
    monkeypatch: pytest.MonkeyPatch, stderr: object
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert maker(True, "fetch") is None


def test_true_is_a_bar_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = made(True)
    assert isinstance(bar, Bar)
    assert terminal.getvalue().startswith("\rfetch:   0%|")
    bar._bar.close()


def test_true_is_a_line_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert isinstance(made(True), Line)


def test_a_bar_of_ones_own_shows_always() -> None:
    with tqdm.tqdm(file=io.StringIO()) as bar:
        assert made(bar)._bar is bar


@pytest.mark.parametrize("kind", [tqdm.tqdm, tqdm.auto.tqdm])
def test_a_class_of_bars_makes_one(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bar = made(kind)
    assert isinstance(bar._bar, kind)
    bar._bar.close()
    assert "fetch" in capsys.readouterr().err


@pytest.mark.parametrize("function", [print, [].append, partial(print, end="")])
def test_a_callable(function: object) -> None:
    assert isinstance(made(function), Told)


async def coroutine(progress: object) -> None:
    pass


@pytest.mark.parametrize(
    ("wrong", "what"), [(1, "int"), ("bar", "str"), ([], "list"), (coroutine, "coroutine")]
)
def test_anything_else_is_refused(wrong: object, what: str) -> None:
    with pytest.raises(TypeError, match=f"True, a tqdm bar, a rich.* callable.*, not .*{what}"):
        maker(wrong, "fetch")


def test_neither_library_is_imported_unless_it_is_needed() -> None:
    program = """
import sys
from hybridexec.displays.choice import maker
assert maker(print, "fetch")(None)
assert maker(True, "fetch") is None
assert not {"tqdm", "rich"} & set(sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL, timeout=60
    )
