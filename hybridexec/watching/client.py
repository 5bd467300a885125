"""The other end of :mod:`.monitor`: finds programs that may be watched, and asks them.

Thread: any.
Guarantees: nothing is asked of a socket in a folder that is not private to the program's user; what
has no program any more is removed; a program that does not answer is waited for a few seconds only.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NamedTuple

from .place import Folder, folders

#: How long an answer may take, in seconds.
_PATIENCE = 10.0
_CHUNK = 256 * 1024
#: Bytes of an answer at most: many times what there is to say.
_LONGEST = 64 * 1024 * 1024


class Gone(Exception):
    """The program has ended, or its executor has."""


class Connection:
    """A connection to one executor."""

    def __init__(self, found: socket.socket, pid: int, number: int) -> None:
        self._socket = found
        self.pid = pid
        self.number = number
        self._received = bytearray()

    def ask(self, request: str) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            Gone: there will be none.
            TimeoutError: it does not come.
            ValueError: the other side does not know the request.
        """
        try:
            self._socket.sendall(request.encode() + b"\n")
            while (end := self._received.find(b"\n")) < 0:
                received = self._socket.recv(_CHUNK)
                if not received or len(self._received) > _LONGEST:
                    raise Gone
                self._received += received
        except ConnectionError:
            raise Gone from None
        line = self._received[:end]
        del self._received[: end + 1]
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Process(NamedTuple):
    """A program that may be watched, and connections to its executors."""

    pid: int
    executors: list[Connection]

    def ask(self, request: str) -> list[dict[str, Any]]:
        """The answers of its executors, without those that have ended meanwhile.

        Raises:
            TimeoutError, ValueError: see :meth:`Connection.ask`.
        """
        answers = []
        for executor in list(self.executors):
            try:
                answers.append(executor.ask(request))
            except Gone:
                executor.close()
                self.executors.remove(executor)
        return answers

    def close(self) -> None:
        """Close the connections."""
        for executor in self.executors:
            executor.close()


def find(pid: int | None = None) -> list[Process]:
    """The programs that this user may watch; or only the one with this process id, which for root
    may be another user's.

    Raises:
        ProcessLookupError: there is no such process.
        PermissionError: it is another user's.
    """
    user = os.geteuid() if pid is None else _user_of(pid)
    found: dict[int, Process] = {}
    for folder in folders(user):
        for process, number, name in folder.sockets():
            if pid in (None, process):
                connection = _connect(folder, name)
                if connection is not None:
                    executors = found.setdefault(process, Process(process, [])).executors
                    executors.append(Connection(connection, process, number))
    return list(found.values())


def _user_of(pid: int) -> int:
    try:
        os.kill(pid, 0)
    except PermissionError:
        raise PermissionError(f"process {pid} is another user's") from None
    except (ProcessLookupError, OverflowError):
        raise ProcessLookupError(f"there is no process {pid}") from None
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return os.geteuid()


def _connect(folder: Folder, name: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_PATIENCE)
    try:
        connection.connect(folder.address(name))
    except ConnectionRefusedError:
        folder.remove(name)  # nobody listens any more
    except OSError:
        pass
    else:
        return connection
    connection.close()
    return None
