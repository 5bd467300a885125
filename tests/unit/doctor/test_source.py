"""Which files belong to a program, and that none of them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridexec.doctor.source import locate, read_program

BOMB = 'raise SystemExit("it was run")\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text(BOMB)
    (package / "__main__.py").write_text(f"{BOMB}from .inner import part")
    (package / "inner" / "__init__.py").write_text(f"{BOMB}from .. import other")
    (package / "inner" / "part.py").write_text(
        f"{BOMB}import json, requests\nfrom ..third import x"
    )
    (package / "other.py").write_text(BOMB)
    (package / "third.py").write_text("this is no Python")
    return tmp_path


def names(target: str) -> tuple[list[str], list[str]]:
    sources, unread = read_program(target)
    return [source.module for source in sources], [path for path, _ in unread]


def test_a_package_is_read_from_its_main_module(folder: Path) -> None:
    found, unread = names("package")
    assert sorted(found) == [
        "package",
        "package.__main__",
        "package.inner",
        "package.inner.part",
        "package.other",
    ]
    assert [Path(path).name for path in unread] == ["third.py"]


def test_a_folder_that_is_no_package_is_a_script(tmp_path: Path) -> None:
    (tmp_path / "an-app").mkdir()
    (tmp_path / "an-app" / "__main__.py").write_text("import beside")
    (tmp_path / "an-app" / "beside.py").write_text("")
    assert names(str(tmp_path / "an-app")) == (["__main__", "beside"], [])


def test_a_module_is_read_by_name(folder: Path) -> None:
    found, unread = names("package.inner.part")
    assert found == ["package.inner.part", "package"]
    assert [Path(path).name for path in unread] == ["third.py"]


def test_a_script_in_another_folder_finds_what_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import beside")
    (tmp_path / "beside.py").write_text("import script")
    assert names(str(tmp_path / "script.py")) == (["__main__", "beside"], [])


def test_what_is_not_there_is_an_error(folder: Path) -> None:
    for target in ("nothing.py", "no.such.module", "package.nothing", "sys"):
        with pytest.raises(FileNotFoundError):
            locate(target)
