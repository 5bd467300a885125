"""What was seen of a fault, in a few words: a cell of the table."""

from __future__ import annotations

from typing import Any

from .scenarios import NEIGHBOURS


def words(seen: dict[str, Any]) -> str:
    """What became of it, in a few words."""
    if "skip" in seen:
        return f"not run: {seen['skip']}"
    if "failed" in seen:
        return f"the scenario failed: {seen['failed']}"
    if "left" in seen:
        return f"{seen['left']} processes left" if seen["left"] else "nothing left"
    if "told" in seen:
        return _words_of_stop(seen)
    if "says why" in seen:
        return _words_of_initializer(seen)
    return _words_of_calls(seen)


def _words_of_calls(seen: dict[str, Any]) -> str:
    parts = []
    others = seen.get("others", {})
    failed = sum(n for end, n in others.items() if end not in ("right", "never"))
    if failed:
        parts.append(f"{failed} of {NEIGHBOURS} other calls fail")
    if never := others.get("never"):
        parts.append(f"{never} of {NEIGHBOURS} other calls hang")
    culprit = seen.get("culprit", "right")
    if culprit == "never":
        parts.append("that call hangs")
    elif culprit != "right":
        parts.insert(0, f"that call fails ({culprit})")
    if seen["after"] == "never":
        parts.append("the pool hangs")
    elif seen["after"] != "right":
        parts.append("**the pool is broken**")
    if seen.get("shutdown hangs"):
        parts.append("shutdown hangs")
    return "; ".join(parts) or "no call is harmed"


def _words_of_stop(seen: dict[str, Any]) -> str:
    if seen["run on"]:
        return "callers are told, the calls run on" if seen["told"] else "the calls run on"
    if not seen["told"]:
        return "stopped, callers wait on"
    return (
        "stopped, the worker lives on" if seen["workers live on"] else "stopped, with their workers"
    )


def _words_of_initializer(seen: dict[str, Any]) -> str:
    if seen["error"] == "never":
        return "calls hang"
    if seen["error"] == "none":
        return "calls run all the same"
    return f"{seen['error']}, {'which says why' if seen['says why'] else 'without the reason'}"
