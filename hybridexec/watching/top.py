"""The command ``hybridexec top``: shows the executors of a running program.

Thread: main.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from .. import need
from . import client, plain
from .words import line

if TYPE_CHECKING:
    pass

NAME = "top"
HELP = "show what the executors of a running program do"
_DESCRIPTION = (
    "Shows what live() shows, of a program that allows it: HybridExecutor(..., monitor=True), or "
    "HYBRIDEXEC_MONITOR=1 in its environment. Without PID, that of the only such program of "
    "yours; if there are several, they are listed. Ctrl-C ends it."
)
_NONE = (
    "no running program of yours lets its executors be watched: HybridExecutor(..., monitor=True), "
    "or HYBRIDEXEC_MONITOR=1 in its environment, allows it from the first call on"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = _DESCRIPTION
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the program's process id")
    parser.add_argument("--once", action="store_true", help="print it once, and end")
    parser.add_argument("--json", action="store_true", help="print it once, as JSON, and end")
    parser.add_argument(
        "--every", type=_seconds, default=1.0, metavar="SECONDS", help="how often to look (1)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    try:
        process = choose(arguments.pid)
        try:
            if arguments.json:
                _print_json(process)
            elif arguments.once or not sys.stdout.isatty():
                _print(process)
            else:
                _follow(process, arguments.every)
        finally:
            process.close()
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"hybridexec top: {error}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def choose(pid: int | None) -> client.Process:
    """The program to look at.

    Raises:
        OSError: there is none, or there are several.
    """
    found = client.find(pid)
    if len(found) == 1:
        return found[0]
    if pid is not None:
        raise ProcessLookupError(
            f"process {pid} does not let its executors be watched, or has none that runs: "
            "HybridExecutor(..., monitor=True), or HYBRIDEXEC_MONITOR=1 in its environment, "
            "allows it from the first call on"
        )
    if not found:
        raise ProcessLookupError(_NONE)
    lines = []
    for process in found:
        views = process.ask("view")
        if views:
            lines.append(f"\n{process.pid:>8}  {line(views[0]['program'], 100)}")
        process.close()
    raise OSError(f"there are several such programs: name one by its PID{''.join(lines)}")


def _print_json(process: client.Process) -> None:
    told: dict[str, Any] = {"pid": process.pid, "executors": process.ask("view")}
    sys.stdout.write(json.dumps(told) + "\n")


def _print(process: client.Process) -> None:
    views = process.ask("view")
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        from .table import Pictures

        Console().print(Pictures(views, whole=True))
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
        texts = [plain.text(view, width, ascii_only) for view in views]
        text = "\n\n".join(texts) + "\n"
        sys.stdout.write(text.encode(sys.stdout.encoding or "ascii", "replace").decode())


def _follow(process: client.Process, every: float) -> None:
    need.rich("a picture that is redrawn (--once prints one without it)")
    import rich.live
    from rich.console import Console

    from .table import Pictures

    console = Console()
    views = process.ask("view")
    try:
        with rich.live.Live(
            Pictures(views), console=console, screen=True, auto_refresh=False
        ) as shown:
            while seen := process.ask("view"):
                views = seen
                shown.update(Pictures(views), refresh=True)
                time.sleep(every)
    finally:
        # The screen is as it was before; the last state stays on it.
        console.print(Pictures(views, whole=True))
    console.print(f"process {process.pid} has no executor any more that may be watched")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.05 to 3600")
    return seconds
