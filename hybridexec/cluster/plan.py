"""What a client tells a node of its workers, once."""

from __future__ import annotations

import contextlib
import platform
import sys
from importlib import metadata
from typing import Any, NamedTuple

from ..wire.contract import Boot, Setups

#: The machine, until it is booted again: with the same, clocks are the same.
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Plan(NamedTuple):
    """What the workers of one client are like."""

    #: That of the first lane.
    boot: Boot
    #: How many calls a worker runs at once, by lane.
    slots: dict[str, int]
    #: Pickled by the client.
    setups: Setups
    worker_logs: bool


def versions() -> dict[str, str]:
    """What has to be the same in client and node."""
    import hybridexec

    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "hybridexec": hybridexec.__version__,
        "gevent": metadata.version("gevent"),
        "greenlet": metadata.version("greenlet"),
        "cloudpickle": metadata.version("cloudpickle"),
        "byte order": sys.byteorder,
    }


#: A difference in these makes calls fail; in others, they may work.
MUST_MATCH = ("Python", "hybridexec", "gevent", "byte order")


def differences(theirs: dict[str, Any]) -> str:
    """How a node's :func:`versions` differ from ours, in words; empty if they may."""
    return ", ".join(
        f"{name} is {theirs.get(name, 'missing')} there and {here} here"
        for name, here in versions().items()
        if name in MUST_MATCH and theirs.get(name) != here
    )


def boot_id() -> str:
    """Which machine this is; empty if that is not known."""
    with contextlib.suppress(OSError), open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()
    return ""
