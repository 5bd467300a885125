"""What a description of a process's logging says, and what follows from it."""

from __future__ import annotations

import logging
import logging.handlers
import marshal
import math
import sys
from pathlib import Path

import pytest

from hybridexec.wire import log_tree
from hybridexec.wire.log_tree import Outlooks, Tree, adopt, adopt_at_once, changes, describe

from ..fakes import own_logging


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    own_logging(monkeypatch)


def last_resort_of(name: str) -> tuple[float, bool]:
    found = outlook(name)
    return found.threshold, found.is_last_resort


def outlook(name: str) -> log_tree.Outlook:
    tree = describe()
    assert marshal.loads(marshal.dumps(tree)) == tree
    return Outlooks(tree).of(name)


def test_without_handlers_the_last_resort_takes_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert last_resort_of("app") == (logging.WARNING, True)
    logging.getLogger("app").setLevel(logging.ERROR)
    assert last_resort_of("app.part") == (logging.ERROR, True)
    assert outlook("apple").threshold == logging.WARNING
    monkeypatch.setattr(logging, "lastResort", None)
    assert outlook("app").threshold == math.inf


def test_levels_of_loggers_and_handlers_count() -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    assert outlook("app").threshold == logging.DEBUG
    assert outlook("root").threshold == logging.DEBUG
    logging.root.handlers[0].setLevel(logging.ERROR)
    assert outlook("app").threshold == logging.ERROR
    own = logging.FileHandler("/dev/null")
    logging.getLogger("app").addHandler(own)
    assert outlook("app.part").threshold == logging.DEBUG
    logging.getLogger("app.part").setLevel(logging.INFO)
    assert outlook("app.part").threshold == logging.INFO
    logging.getLogger("app").propagate = False
    assert outlook("app").takers == ((0, "/dev/null", "logging.FileHandler"),)
    own.close()


def test_what_is_disabled_is_not_taken() -> None:
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("app").disabled = True
    assert outlook("app").threshold == math.inf
    assert outlook("app.part").threshold == logging.DEBUG, "as logging has it"
    logging.disable(logging.INFO)
    assert outlook("app.part").threshold == logging.INFO + 1


def test_a_null_handler_takes_nothing_and_is_no_last_resort() -> None:
    logging.getLogger("lib").addHandler(logging.NullHandler())
    assert last_resort_of("lib") == (math.inf, False)
    assert last_resort_of("app") == (logging.WARNING, True)


class Odd(logging.Handler):
    pass


def test_the_same_place_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, other = str(tmp_path / "log"), str(tmp_path / "other")
    handlers: list[logging.Handler] = [
        logging.StreamHandler(sys.stderr),
        logging.FileHandler(log, delay=True),
        Odd(),
    ]
    handlers[1].setLevel(logging.ERROR)
    for handler in handlers:
        logging.root.addHandler(handler)
    found = outlook("app")

    def writes(handler: logging.Handler, level: int = logging.INFO, alike: bool = False) -> bool:
        return found.writes(log_tree.describe_handler(handler), level, alike)

    assert writes(logging.StreamHandler(sys.stderr))
    assert not writes(logging.StreamHandler(sys.stdout))
    assert not writes(logging.FileHandler(log, delay=True))
    assert writes(logging.handlers.RotatingFileHandler(log, delay=True), logging.ERROR)
    assert not writes(logging.FileHandler(other, delay=True), logging.ERROR)
    assert not writes(Odd()), "it may write elsewhere"
    assert writes(Odd(), alike=True)
    assert not writes(logging.Handler(), alike=True)
    monkeypatch.setattr(Odd, "__module__", "__mp_main__")
    assert log_tree.describe_handler(Odd())[2] == "__main__.Odd"


def test_odd_handlers_and_names_do_no_harm() -> None:
    class Name(str):
        pass

    class Closed(logging.Handler):
        level = property(lambda self: 1 / 0, lambda self, level: None)  # type: ignore[assignment]
        stream = property(lambda self: 1 / 0)

    logging.getLogger(Name("app")).addHandler(Closed())
    tree = describe()
    assert marshal.loads(marshal.dumps(tree)) == tree
    assert Outlooks(tree).of("app").takers[0][:2] == (logging.NOTSET, None)


def test_levels_are_adopted_and_followed() -> None:
    before: Tree = (0, 30, (("", 10, True, False, ()), ("app", 40, True, False, ())))
    adopt(changes(before))
    app = logging.getLogger("app")
    assert (logging.root.level, app.level) == (10, 40)
    assert not app.isEnabledFor(30)
    app.setLevel(20)  # the worker's own wish
    after: Tree = (10, 30, (("", 30, True, False, ()), ("new.one", 5, True, False, ())))
    assert changes(after, before) == {"": 30, "app": 0, "new.one": 5}
    rest = adopt_at_once(changes(after, before), 10)
    assert (logging.root.level, app.level, rest) == (30, 0, {"new.one": 5})
    assert app.isEnabledFor(30)
    assert not app.isEnabledFor(20)
    adopt(rest)
    assert logging.getLogger("new.one").level == 5
    assert logging.root.manager.disable == 10


def test_what_has_not_changed_is_left_to_the_worker() -> None:
    tree: Tree = (0, 30, (("", 10, True, False, ()), ("app", 40, True, False, ())))
    assert changes(tree, tree) == {}
