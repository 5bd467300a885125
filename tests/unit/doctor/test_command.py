"""The command: its output, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hybridexec import cli

BAD = """
import psycopg2
from hybridexec import HybridExecutor
raise SystemExit("it was run")
HybridExecutor()
"""
GOOD = """
from hybridexec import HybridExecutor
if __name__ == "__main__":
    HybridExecutor()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "good.py").write_text(GOOD)


def test_what_is_wrong_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "bad.py"]) == 1
    out = capsys.readouterr().out
    assert "bad.py:2\n" in out
    assert "See doctor.html#psycopg2" in out
    assert "bad.py:5\n" in out
    assert out.endswith("2 findings.\n")


def test_if_nothing_is_wrong_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "good"]) == 0
    assert capsys.readouterr().out.endswith("Nothing is wrong.\n")
    assert cli.main(["doctor"]) == 0


def test_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json", "bad"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [finding["code"] for finding in told["findings"]] == ["psycopg2", "main-guard"]
    assert set(told["findings"][0]) == {"code", "where", "what", "cure", "see"}
    assert "gevent" in told["facts"]


def test_a_program_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "nothing.py"]) == 2
    assert "nothing.py" in capsys.readouterr().err


def test_a_file_that_is_no_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.py").write_text("def (:")
    assert cli.main(["doctor", "odd.py"]) == 1
    assert "doctor.html#syntax" in capsys.readouterr().out


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "doctor" in capsys.readouterr().out


def test_it_is_a_module_that_can_be_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hybridexec", "doctor", str(tmp_path / "bad.py")],
        cwd=Path(cli.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
