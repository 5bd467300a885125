"""Folders of sockets are private, whatever somebody else has put there."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from hybridexec.watching import place
from hybridexec.watching.place import Folder, Unsafe, folders, make_folder

ME = os.geteuid()
as_root = pytest.mark.skipif(ME != 0, reason="only root can give a folder to somebody else")


@pytest.fixture(autouse=True)
def only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of this machine are none of ours."""
    usual = [str(tmp_path / "first"), str(tmp_path / "second")]
    monkeypatch.setattr(place, "_candidates", lambda user: iter(usual))


def test_a_folder_is_made_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = make_folder()
    finally:
        os.umask(before)
    assert folder.path == str(tmp_path / "first")
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    folder.close()
    again = make_folder()
    assert again.path == folder.path
    again.close()


def test_one_that_others_may_enter_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir(mode=0o755)
    (tmp_path / "first").chmod(0o711)
    folder = make_folder()
    assert folder.path == str(tmp_path / "second")
    folder.close()
    assert [found.path for found in folders(ME)] == [str(tmp_path / "second")]
    assert stat.S_IMODE(os.stat(tmp_path / "first").st_mode) == 0o711, "it was somebody's decision"


@as_root
def test_one_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir(mode=0o700)
    os.chown(tmp_path / "first", 65534, 65534)
    with pytest.raises(Unsafe, match="belongs to user 65534"):
        Folder(str(tmp_path / "first"), ME)
    folder = make_folder()
    assert folder.path == str(tmp_path / "second")
    folder.close()
    assert [found.path for found in folders(ME)] == [str(tmp_path / "second")]
    assert [found.path for found in folders(65534)] == [str(tmp_path / "first")]


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "first").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "second").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        make_folder()
    assert list(folders(ME)) == []
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_where_there_is_none_the_error_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "first").touch()
    (tmp_path / "second").mkdir()
    (tmp_path / "second").chmod(0o777)
    with pytest.raises(Unsafe, match="second may be entered by others"):
        make_folder()


def test_a_folder_cannot_be_exchanged_while_it_is_used(tmp_path: Path) -> None:
    folder = make_folder()
    (tmp_path / "first").rename(tmp_path / "moved")
    (tmp_path / "first").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(folder.address("1-1.sock"))
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["1-1.sock"]
    assert folder.sockets() == [(1, 1, "1-1.sock")]
    folder.close()


def test_what_is_no_socket_of_ours_is_not_seen(tmp_path: Path) -> None:
    folder = make_folder()
    for name in ("12-3.sock", "9-1.sock", ".9-2.sock", "x-1.sock", "9-1.sock.old", "9.sock"):
        (tmp_path / "first" / name).touch()
    assert folder.sockets() == [(9, 1, "9-1.sock"), (12, 3, "12-3.sock")]
    folder.remove("9-1.sock")
    folder.remove("9-1.sock")
    folder.close()


def test_where_it_may_be(runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert next(place._candidates(ME)) == f"{runtime}/hybridexec"
    assert f"/tmp/hybridexec-{ME}" in place._candidates(ME)
    assert f"{runtime}/hybridexec" not in place._candidates(ME + 1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert not any("relative" in path for path in place._candidates(ME))
