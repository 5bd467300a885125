"""Where the sockets of programs that may be watched are: private folders of their user's.

Thread: any.
Guarantees: a folder is used only if it belongs to that user and nobody else may enter it; nothing
that another user has put in its place, a symbolic link say, is followed. It is looked at, and used
from then on, by a descriptor, so that it cannot be exchanged meanwhile.

A socket has the name ``PID-NUMBER.sock``, where the number tells executors of a process apart. It
gets it when somebody listens: so one with such a name that nobody listens to is left from a process
that was killed, and may be removed.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator

_NAME = re.compile(r"(\d+)-(\d+)\.sock")


class Unsafe(OSError):
    """A folder is not its user's, or others may enter it."""


class Folder:
    """An open folder."""

    def __init__(self, path: str, user: int) -> None:
        """
        Args:
            user: whose it must be.

        Raises:
            Unsafe: it is not, or not only.
            OSError: it cannot be opened.
        """
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(self.fd)
            if found.st_uid != user:
                raise Unsafe(f"{path} belongs to user {found.st_uid}, not to user {user}")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise Unsafe(f"{path} may be entered by others: its mode must be 0700")
        except BaseException:
            self.close()
            raise

    def address(self, name: str) -> str:
        """What a socket of this name is bound to, or connected to."""
        # By the descriptor where that is possible; so the path may be of any length, too.
        by_fd = f"/proc/self/fd/{self.fd}"
        return f"{by_fd if os.path.isdir(by_fd) else self.path}/{name}"

    def sockets(self) -> list[tuple[int, int, str]]:
        """The sockets in it: process, number and name of each."""
        found = filter(None, map(_NAME.fullmatch, os.listdir(self.fd)))
        return sorted((int(match[1]), int(match[2]), match[0]) for match in found)

    def rename(self, name: str, new: str) -> None:
        """Give a socket another name."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Remove a socket, if it is there."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


def socket_name(pid: int, number: int) -> str:
    """The name of a socket."""
    return f"{pid}-{number}.sock"


def make_folder() -> Folder:
    """This user's folder, made if it has to be: the first that is, or can be made, private.

    Raises:
        OSError: there is none.
    """
    user = os.geteuid()
    errors: list[OSError] = []
    for path in _candidates(user):
        try:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            return Folder(path, user)
        except OSError as error:
            errors.append(error)
    raise next((error for error in errors if isinstance(error, Unsafe)), errors[-1])


def folders(user: int) -> Iterator[Folder]:
    """A user's folders, as far as there are any; each is closed when the next one is asked for."""
    seen: set[tuple[int, int]] = set()
    for path in _candidates(user):
        try:
            folder = Folder(path, user)
        except OSError:
            continue
        try:
            found = os.fstat(folder.fd)
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield folder
        finally:
            folder.close()


def _candidates(user: int) -> Iterator[str]:
    """Where a user's folder may be: in the environment of who looks now, or of the other side."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if user == os.geteuid() and os.path.isabs(given):
        yield os.path.join(given, "hybridexec")
    yield f"/run/user/{user}/hybridexec"
    yield os.path.join(tempfile.gettempdir(), f"hybridexec-{user}")
    yield f"/tmp/hybridexec-{user}"
