"""The command ``hybridexec stacks``: says where the calls of a running program are.

Thread: main.

A program tells, for each worker: ``worker`` (its number), ``pid``, ``node`` (empty if it is on this
machine) and ``state``; ``kept_by``, the call that keeps its hub, or None; ``groups`` of calls that
are at the same place: ``count``, the first of them as ``calls`` (``call`` in a few words, and for
how many ``seconds`` it has run), and ``stack``, a list of ``file``, ``line``, ``function`` and
``source``, the innermost last; and how many calls ``more`` there are. A group without calls is what
the main thread does besides. If the worker could not answer, ``no_answer`` says why, ``dump`` is
what faulthandler has written of its main thread, and ``running`` are the last calls that it has
begun, as above.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from ..process import on_node
from . import top
from .words import count, line, seconds

NAME = "stacks"
HELP = "say where the calls of a running program are, with their stacks"
_WIDTH = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Prints what each worker of a program runs now, call by call, with Python stacks, also of "
        "calls that wait. The program must allow it, as for top."
    )
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the program's process id")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    try:
        process = top.choose(arguments.pid)
        try:
            executors = process.ask("stacks")
        finally:
            process.close()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"hybridexec stacks: {error}\n")
        return 1
    if arguments.json:
        text = json.dumps({"pid": process.pid, "executors": executors})
    else:
        text = "\n".join(each for executor in executors for each in _lines(executor))
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    return 0


def _lines(executor: dict[str, Any]) -> Iterator[str]:
    yield f"HybridExecutor {executor['executor']} in process {executor['pid']}"
    for worker in executor["workers"]:
        yield ""
        yield f"worker {worker['pid']}{on_node(worker['node'])} ({worker['state']})" + (
            f": its hub is kept by {line(worker['kept_by'], _WIDTH)}" if worker["kept_by"] else ""
        )
        if worker["no_answer"]:
            yield from _silent(worker)
        elif not worker["groups"]:
            yield "  no call"
        for group in worker["groups"]:
            yield from _group(group)
        if worker["more"] and not worker["no_answer"]:
            yield f"  and {count(worker['more'])} more calls"


def _group(group: dict[str, Any]) -> Iterator[str]:
    for call in group["calls"]:
        yield f"  {_call(call)}"
    if not group["calls"]:
        yield "  no call, but what has the main thread"
    elif group["count"] > len(group["calls"]):
        yield f"  and {count(group['count'] - len(group['calls']))} more at the same place"
    for frame in group["stack"]:
        place = f'File "{frame["file"]}", line {frame["line"]}, in {frame["function"]}'
        yield f"    {line(place, 2 * _WIDTH)}"
        if frame["source"]:
            yield f"      {line(frame['source'], _WIDTH)}"


def _silent(worker: dict[str, Any]) -> Iterator[str]:
    yield f"  no answer: {worker['no_answer']}"
    for call in worker["running"]:
        yield f"  {_call(call)}"
    if worker["more"]:
        yield f"  and {count(worker['more'])} more calls"
    if worker["dump"]:
        yield "  its main thread, as faulthandler sees it (the innermost frame first):"
        for each in worker["dump"].splitlines():
            yield f"    {line(each, 2 * _WIDTH)}"


def _call(call: dict[str, Any]) -> str:
    age = "" if call["seconds"] is None else f", for {seconds(call['seconds'])}"
    return line(call["call"], _WIDTH) + age
