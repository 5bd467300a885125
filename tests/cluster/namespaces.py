"""Machines of their own for nodes, as far as the network goes: namespaces with a cable each.

They need root and `iproute2`. The tests' thread, and what it starts, is in the namespace of the
switch that all cables lead to; nothing outside of the namespaces is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator

#: The addresses are seen within the namespaces only.
_PREFIX = "10.77.0."
SWITCH = f"{_PREFIX}1"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why there can be none here; empty if there can be."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "there is no `ip` here (iproute2)"
    name = f"hybridexec-{os.getpid()}-try"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"no network namespaces here: {done.stderr.strip()}"
    link = ["ip", "-n", name, "link", "add", "switch", "type", "bridge"]
    bridge = subprocess.run(link, capture_output=True, text=True, check=False)
    ip("netns", "del", name)
    return f"no bridges here: {bridge.stderr.strip()}" if bridge.returncode else ""


def ip(*arguments: str) -> None:
    """Run that command."""
    subprocess.run(["ip", *arguments], check=True)


class Machine:
    """A namespace whose cable can be cut."""

    def __init__(self, network: Network, number: int) -> None:
        self.host = f"{_PREFIX}{number + 2}"
        self._network = network
        self._name = network.add(f"machine-{number}")
        #: Begins a command that is to run there.
        self.prefix = ("ip", "netns", "exec", self._name)
        self._plug = f"plug-{number}"
        hub = network.switch
        ends = ["type", "veth", "peer", "name", "cable", "netns", self._name]
        ip("-n", hub, "link", "add", self._plug, *ends)
        ip("-n", hub, "link", "set", self._plug, "master", "switch", "up")
        ip("-n", self._name, "address", "add", f"{self.host}/24", "dev", "cable")
        ip("-n", self._name, "link", "set", "cable", "up")

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        ip("-n", self._network.switch, "link", "set", self._plug, "down")

    def mend(self) -> None:
        """Things come through again."""
        ip("-n", self._network.switch, "link", "set", self._plug, "up")


class Network:
    """Machines whose cables lead to a switch."""

    def __init__(self) -> None:
        self._added: list[str] = []
        self.switch = self.add("switch")
        ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        ip("-n", self.switch, "address", "add", f"{SWITCH}/24", "dev", "switch")
        ip("-n", self.switch, "link", "set", "switch", "up")
        self.machines: list[Machine] = []

    def add(self, name: str) -> str:
        """A namespace; returns its full name."""
        full = f"hybridexec-{os.getpid()}-{name}"
        ip("netns", "add", full)
        self._added.append(full)
        ip("-n", full, "link", "set", "lo", "up")
        return full

    def machine(self) -> Machine:
        """Another machine."""
        self.machines.append(Machine(self, len(self.machines)))
        return self.machines[-1]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and threads and processes that it starts, are at the switch."""
        with open("/proc/self/ns/net") as outside:
            with open(f"/run/netns/{self.switch}") as inside:
                _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())

    def close(self) -> None:
        """Remove the namespaces; their processes have ended."""
        for name in self._added:
            ip("netns", "del", name)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
