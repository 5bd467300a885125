"""What a process's logging does with a record: which levels it takes, and where it is written.

The parent describes its own for its workers, so that they send no record that nobody there would
take, and write none that the parent writes to the same place.

Thread: any; nothing here takes a lock or runs code of the user's, but for a handler's attributes.
Guarantees: a description is made of plain values, so that it can be sent and compared.
"""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

#: A handler: its level, where it writes if that is known, and its class.
Taker = tuple[int, str | None, str]
#: A logger: its name (the root's is empty), its level, whether its records are the business of the
#: loggers above it, too, whether it is disabled, and its handlers.
LoggerState = tuple[str, int, bool, bool, tuple[Taker, ...]]
#: The level up to which all logging is disabled, the level of the handler of last resort (None if
#: there is none), and the loggers about which there is something to say.
Tree = tuple[int, int | None, tuple[LoggerState, ...]]


def describe() -> Tree:
    """This process's logging."""
    manager = logging.root.manager
    last = logging.lastResort
    states = []
    for name, logger in [("", logging.root), *list(manager.loggerDict.items())]:
        if not isinstance(logger, logging.Logger):  # a place holder
            continue
        news = logger.level or logger.handlers or logger.disabled or not logger.propagate
        if news or not name:
            takers = tuple(map(describe_handler, logger.handlers))
            switches = bool(logger.propagate), bool(logger.disabled)
            states.append((str(name), _level(logger), *switches, takers))
    return int(manager.disable), None if last is None else _level(last), tuple(states)


def describe_handler(handler: logging.Handler) -> Taker:
    """One handler."""
    kind = type(handler)
    # What a worker knows as __mp_main__.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return _level(handler), _place(handler), f"{module}.{kind.__qualname__}"


def _level(its: Any) -> int:
    """The level of a logger or handler, which may be one of the user's making."""
    try:
        return int(its.level)
    except Exception:
        return logging.NOTSET


def _place(handler: Any) -> str | None:
    """Where a handler writes, if that is a file, or the standard output or error."""
    try:
        path = getattr(handler, "baseFilename", None)
        if type(path) is str:
            return path
        stream = getattr(handler, "stream", None)
        if stream is not None:
            for name in ("stderr", "stdout"):
                if stream is getattr(sys, name) or getattr(stream, "name", None) == f"<{name}>":
                    return f"<{name}>"
    except Exception:  # the user's own attributes
        pass
    return None


class Outlook:
    """What becomes of the records of one logger."""

    __slots__ = ("is_last_resort", "takers", "threshold")

    def __init__(self, threshold: float, is_last_resort: bool, takers: tuple[Taker, ...]) -> None:
        #: The level from which on somebody takes them.
        self.threshold = threshold
        #: Whether that is the handler of last resort, which takes what nobody else does.
        self.is_last_resort = is_last_resort
        #: The handlers that get them.
        self.takers = takers

    def writes(self, handler: Taker, level: int, alike: bool) -> bool:
        """Whether a record of this level is written to where ``handler`` would write it.

        Args:
            alike: whether a handler of the same class counts, where it is not known where the two
                write.
        """
        _, place, kind = handler
        return any(
            level >= least and (place == where if place is not None else alike and kind == other)
            for least, where, other in self.takers
            if place is not None or where is None
        )


class Outlooks:
    """What becomes of records, by their loggers' names, according to a :data:`Tree`."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._disabled, self._last_resort, states = tree
        self._states = {state[0]: state for state in states}
        self._known: dict[str, Outlook] = {}

    def of(self, name: str) -> Outlook:
        """The outlook for the records of a logger, which need not be there."""
        outlook = self._known.get(name)
        if outlook is None:
            outlook = self._known[name] = self._find("" if name == "root" else name)
        return outlook

    def _find(self, name: str) -> Outlook:
        level, goes_on, takers = 0, True, list[Taker]()
        at: str | None = name
        while at is not None:
            state = self._states.get(at)
            if state is not None:
                _, own, propagates, disabled, handlers = state
                if disabled and at == name:
                    return Outlook(math.inf, False, ())
                level = level or own
                if goes_on:
                    takers += handlers
                    goes_on = propagates
            at = None if not at else at.rpartition(".")[0]
        if takers:
            real = [least for least, _, kind in takers if kind != "logging.NullHandler"]
            takes = min(real, default=math.inf)
        else:
            takes = math.inf if self._last_resort is None else self._last_resort
        return Outlook(max(level, self._disabled + 1, takes), not takers, tuple(takers))


def changes(new: Tree, old: Tree | None = None) -> dict[str, int]:
    """The levels of loggers, by name, that are not as in ``old``; without one, all there are."""
    before = {} if old is None else _levels(old)
    after = _levels(new)
    gone = {name: logging.NOTSET for name in before if name not in after}
    return gone | {name: level for name, level in after.items() if level != before.get(name)}


def _levels(tree: Tree) -> dict[str, int]:
    return {name: level for name, level, *_ in tree[2] if level or not name}


def adopt(levels: dict[str, int]) -> None:
    """Give loggers these levels; they are made if they have to be. May wait for logging's lock."""
    for name, level in levels.items():
        logger = logging.getLogger(name) if name else logging.root
        if logger.level != level:
            logger.setLevel(level)


def adopt_at_once(levels: dict[str, int], disabled: int) -> dict[str, int]:
    """As :func:`adopt`, without waiting for a lock, so only for loggers that exist; returns the
    rest. ``disabled`` is the level up to which all logging is disabled."""
    manager = logging.root.manager
    loggers = {**manager.loggerDict, "": logging.root}
    rest = {}
    for name, level in levels.items():
        logger = loggers.get(name)
        if isinstance(logger, logging.Logger):
            logger.level = level
        else:
            rest[name] = level
    manager.disable = disabled
    for logger in loggers.values():
        if isinstance(logger, logging.Logger):
            logger._cache.clear()  # type: ignore[attr-defined]  # private: which levels are enabled
    return rest
