"""What the figures were measured by, on and with."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path

#: What is measured, and what takes part in it.
PACKAGES = (
    "hybridexec",
    "gevent",
    "greenlet",
    "cloudpickle",
    "aiomultiprocess",
    "loky",
    "mpire",
    "pebble",
    "dask",
    "distributed",
    "requests",
    "urllib3",
    "numpy",
    "psutil",
)


def command(program: str, arguments: list[str] | None) -> str:
    """How to run this again; without ``arguments`` they are those of this process."""
    return shlex.join(["python", "-m", program, *(arguments or sys.argv[1:])])


def heading(program: str, arguments: list[str] | None, note: str = "") -> str:
    """What was run, when and where, in a line."""
    facts = ", ".join(f"{name} {fact}" for name, fact in describe().items())
    return f"`{command(program, arguments)}`{note}, {time.strftime('%Y-%m-%d')}: {facts}"


def describe() -> dict[str, str]:
    """The machine and the versions, by what they are of."""
    facts = {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} usable cores",
        "system": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": f"{platform.python_implementation()} {sys.version.split()[0]}",
    }
    for package in PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
