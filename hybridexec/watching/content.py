"""What a view says, in words: the cells and lines that the table and the plain text have alike.

Thread: any.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..process import on_node
from .view import View
from .words import bar, count, line, seconds, size, sparkline

#: The columns of the workers' table: those with texts, and those with numbers.
_TEXTS = ("worker", "lane", "state", "slots in use")
_NUMBERS = ("queued", "done", "failed", "busy", "lag", "memory")
#: How wide a bar of slots is.
_BAR = 20
#: A hub that is late by less than so many seconds is not late.
_ON_TIME = 0.1
#: How many running calls, groups of failures, and ends of workers are shown.
_MOST = 5
#: How many nodes are.
_MOST_NODES = 16


class Section(NamedTuple):
    """Some lines under a heading. Each line has a number, which stands at its left, and a text."""

    heading: str
    lines: list[tuple[str, str]]


def title(view: View) -> str:
    """What is shown."""
    number = f" {view['executor']}" if "executor" in view else ""
    slots = view["slots"]
    lanes = [lane for lane in slots if lane in view["stats"]["lanes"]]
    if len(lanes) > 1:
        each = ", ".join(f"{_many(slots[lane], 'slot')} each ({lane})" for lane in lanes)
    else:
        each = f"{_many(slots[lanes[0] if lanes else next(iter(slots))], 'slot')} each"
    return (
        f"HybridExecutor{number} in process {view['pid']}: {view['state']}, "
        f"age {seconds(view['age'])}, up to {_many(view['max_workers'], 'worker')} with {each}"
    )


def columns(view: View) -> tuple[tuple[str, ...], int]:
    """The columns of the workers' table, and how many of them are texts: the others are numbers."""
    texts = ("node", *_TEXTS) if _has_nodes(view) else _TEXTS
    return texts + _NUMBERS, len(texts)


def _has_nodes(view: View) -> bool:
    """Whether workers are on nodes of a cluster."""
    stats = view["stats"]
    return bool(stats["nodes"]) or any(worker["node"] for worker in stats["workers"])


def workers(view: View, most: int, ascii_only: bool = False) -> tuple[list[tuple[str, ...]], int]:
    """A row for each worker, up to so many: those with most to do; and how many others there are.
    What it gives is in the order of :func:`columns`; workers of a node are together."""
    all_of_them = view["stats"]["workers"]
    shown = all_of_them
    if len(all_of_them) > most:
        by_load = sorted(all_of_them, key=lambda each: each["running"] + each["queued"])
        chosen = {id(each) for each in by_load[len(by_load) - most :]}
        shown = [each for each in all_of_them if id(each) in chosen]
    slots = view["slots"]
    rows = [_worker(each, slots[each["lane"]], ascii_only) for each in shown]
    if _has_nodes(view):
        with_nodes = [(each["node"] or "-", *row) for each, row in zip(shown, rows, strict=True)]
        rows = sorted(with_nodes, key=lambda row: row[0])
    return rows, len(all_of_them) - len(shown)


def _worker(worker: dict[str, Any], slots: int, ascii_only: bool) -> tuple[str, ...]:
    lag = worker["hub_lag"]
    running = min(worker["running"], slots)  # more are those whose results are on their way
    return (
        str(worker["pid"] or "-"),
        worker["lane"],
        worker["state"],
        f"{bar(running / slots, _BAR, ascii_only)} {running}/{slots}",
        count(worker["queued"]),
        count(worker["done"]),
        count(worker["failed"]),
        f"{worker['busy']:.0%}",
        seconds(lag) if lag >= _ON_TIME else "-",
        size(worker["rss"]) if worker["rss"] else "-",
    )


def calls(view: View) -> list[tuple[str, str]]:
    """How the calls are doing: names, and what there is to say."""
    stats = view["stats"]
    went = ", ".join(
        f"{count(stats[key])} {word}"
        for key, word in (
            ("finished", "finished"),
            ("failed", "failed"),
            ("retried", "retried"),
            ("timed_out", "timed out"),
            ("cancelled", "cancelled"),
            ("lost", "lost"),
        )
        if stats[key] or key in ("finished", "failed")
    )
    waits = f"{count(stats['running'])} running, {count(stats['queued'])} queued"
    if stats["abandoned"]:
        waits += f", {count(stats['abandoned'])} that do not end"
    said = [("calls", f"{went}; {waits}")]
    for key, name in (("run_seconds", "run"), ("wait_seconds", "wait")):
        if stats[key]["count"]:
            named = ", ".join(
                f"{each} {seconds(stats[key][each])}" for each in ("p50", "p90", "p99", "max")
            )
            said.append((name, named))
    return said


def throughput(view: View, width: int, ascii_only: bool = False) -> str:
    """Calls per second: the last minute, as a sparkline, and the number."""
    drawn = sparkline(view["rates"], width, ascii_only)
    return f"{drawn} {count(view['stats']['calls_per_second'])}/s"


def sections(view: View, width: int) -> list[Section]:
    """What else there is to tell, in lines that are about ``width`` wide."""
    told = [
        Section("nodes", [_node(node, width) for node in view["stats"]["nodes"][:_MOST_NODES]]),
        Section(
            "running for longest",
            [
                (seconds(call["seconds"]), line(f"{call['call']} in {_where(call)}", width))
                for call in view["stats"]["slowest"][:_MOST]
            ],
        ),
        Section(
            "failures, the latest first",
            [
                (f"{count(group['count'])} ×", line(_failure(group), width))
                for group in view["failures"][:_MOST]
            ],
        ),
        Section(
            "workers that were lost, the latest first",
            [
                (
                    f"{seconds(end['seconds_ago'])} ago",
                    line(f"{_where(end)}: {end['cause']}", width),
                )
                for end in view["ends"]
                if end["lost"]
            ][:_MOST],
        ),
    ]
    return [section for section in told if section.lines]


def _where(told: dict[str, Any]) -> str:
    """A worker's process."""
    return f"{told['pid']}{on_node(told['node'])}"


def _node(node: dict[str, Any], width: int) -> tuple[str, str]:
    """A line for a node: how many of its places are taken, and what its workers do."""
    said = (
        f"{node['name']}{' (leaving)' if node['leaving'] else ''}: "
        f"{_many(node['workers'], 'worker')}, {count(node['running'])} running, "
        f"{count(node['queued'])} queued, {count(node['done'])} done, "
        f"{count(node['failed'])} failed, {size(node['rss'])}, "
        f"CPU {seconds(node['cpu_seconds'])}"
    )
    if node["round_trip"] is not None:
        said += f", round trip {seconds(node['round_trip'])}"
    return _many(node["places"], "place"), line(said, width)


def _failure(group: dict[str, Any]) -> str:
    error, function, place = (
        group["error"].removeprefix("builtins."),
        group["function"],
        group["place"],
    )
    if not place:
        return f"{error} of {function}: {group['text']}"
    if place.endswith(f" in {function}"):
        return f"{error} at {place}: {group['text']}"
    return f"{error} at {place}, called by {function}: {group['text']}"


def summary(view: View) -> str:
    """All in one line, for a log."""
    stats = view["stats"]
    failed = stats["failed"] + stats["timed_out"] + stats["lost"]
    resident = sum(worker["rss"] for worker in stats["workers"])
    return (
        f"hybridexec: {count(stats['finished'])} finished, {count(failed)} failed, "
        f"{count(stats['running'])} running, {count(stats['queued'])} queued; "
        f"{count(stats['calls_per_second'])}/s, p50 {seconds(stats['run_seconds']['p50'])}, "
        f"p99 {seconds(stats['run_seconds']['p99'])}; {_many(len(stats['workers']), 'worker')}, "
        f"{size(resident)}"
    )


def _many(number: int, what: str) -> str:
    return f"{count(number)} {what}{'' if number == 1 else 's'}"
