"""A folder for sockets that is this test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridexec.watching import place


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the user's runtime directory; nothing is looked for elsewhere."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    monkeypatch.setattr(place, "_candidates", lambda user: iter([str(path / "hybridexec")]))
    return path
