"""What the doctor says of Python, versions, limits and bytecode."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from hybridexec import checks
from hybridexec.doctor import environment
from hybridexec.doctor.source import Source


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv("GEVENT_RESOLVER", raising=False)
    monkeypatch.setattr(checks, "most_concurrency", lambda: None)


def codes(sources: list[Source] | None = None, concurrency: int = 100) -> list[str]:
    found = environment.examine(sources or [], [(concurrency, "script.py:1")])
    return [finding.code for finding in found]


def source_of(folder: Path, text: str) -> Source:
    (folder / "script.py").write_text(text)
    return Source(str(folder / "script.py"), "__main__")


def test_here_nothing_is_wrong() -> None:
    assert codes() == []
    assert environment.facts()["gevent"] == metadata.version("gevent")


def test_too_few_descriptors_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "most_concurrency", lambda: 960)
    assert codes(concurrency=960) == []
    assert codes(concurrency=961) == ["open-files"]


def test_look_ups_that_wait_for_one_another_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path, "import requests")
    assert codes([source], 1000) == ["resolver"]
    assert codes([source], 100) == []
    assert codes([source_of(tmp_path, "import time")], 1000) == []
    monkeypatch.setenv("GEVENT_RESOLVER", "ares")
    assert codes([source], 1000) == []
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert codes([source], 1000) == ["resolver"], "gevent was built without it"


def test_versions_that_do_not_work_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("packaging")
    needed = ["gevent>=24; python_version > '3'", "cloudpickle", 'odd>=1; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda name: needed)
    installed = {"gevent": "1.0"}
    monkeypatch.setattr(environment, "version", installed.get)
    found = [(finding.code, finding.where) for finding in environment.examine([], [])]
    assert found == [("versions", "gevent"), ("versions", "cloudpickle")]


def test_a_free_threaded_python_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert codes() == ["interpreter"]


def test_bytecode_that_is_never_kept_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, module = source_of(tmp_path, ""), tmp_path / "module.py"
    module.write_text("")
    sources = [script, Source(str(module), "module")]
    monkeypatch.setattr(environment, "find", lambda name, path: None)
    assert codes(sources) == []
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert codes(sources) == ["bytecode"]
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert codes(sources) == ["bytecode"]
    compiled = Path(environment.cache_from_source(str(module)))
    compiled.parent.mkdir()
    compiled.write_bytes(b"x")
    assert codes(sources) == []
    assert codes([script]) == [], "a script's own bytecode is never kept"
