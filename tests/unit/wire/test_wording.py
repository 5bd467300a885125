"""How calls are named: shortly, and whatever the user's objects are like."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from hybridexec.wire.wording import add_note, call_text, function_name


class Tool:
    def method(self) -> None: ...

    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        raise AssertionError("nobody asked for it")


class Stubborn:
    """As objects are whose __getattr__ looks into a dict."""

    def __getattr__(self, name: str) -> None:
        raise KeyError(name) if name == "__qualname__" else AttributeError(name)

    def __call__(self) -> None: ...


class Frozen(Exception):
    """As a frozen dataclass is."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (len, "len"),
        (Stubborn(), "Stubborn"),
        (Tool, "Tool"),
        (Tool().method, "Tool.method"),
        (Tool(), "Tool"),
        (functools.partial(functools.partial(len, "x"), "y"), "len"),
        (functools.partial(Tool()), "Tool"),
    ],
)
def test_a_function_has_a_name(function: Any, name: str) -> None:
    assert function_name(function) == name


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ((), "f()"),
        ((1, "a", None), "f(1, 'a', None)"),
        (b"a pickle", "f(...)"),
        (None, "f(...)"),
        (tuple(range(9)), "f(0, 1, 2, 3, 4, 5, ...)"),
        ((10**5000,), "f(...)"),
        (("http://127.0.0.1:8080/some/page?number=12345",), None),
        ((1, Tool()), "f(1, ...)"),
    ],
)
def test_a_call_has_a_text(item: Any, text: str | None) -> None:
    assert call_text("f", item) == (text or f"f({item[0]!r})")


@pytest.mark.parametrize(
    "argument", ["x" * 100_000, b"\xff" * 100_000, 10**4000, -(10**40), 1e300, ["x"] * 1000]
)
def test_the_text_is_short(argument: object) -> None:
    assert len(call_text("f", (argument,))) < 300


def test_a_long_text_keeps_its_ends() -> None:
    url = f"http://example.org/{'long/' * 50}page-5"
    assert re.fullmatch(r"f\('http://example.org/long.*\.\.\..*page-5'\)", call_text("f", (url,)))


@pytest.mark.parametrize("error", [ValueError("x"), Frozen("x")])
def test_notes_are_added_in_order(error: BaseException) -> None:
    add_note(error, "one")
    add_note(error, "two")
    assert error.__notes__ == ["one", "two"]  # type: ignore[attr-defined]


def test_an_exception_that_takes_no_notes_gets_none() -> None:
    error = ValueError("x")
    error.__notes__ = "not a list"  # type: ignore[attr-defined]
    add_note(error, "one")
    assert error.__notes__ == "not a list"  # type: ignore[attr-defined]
