"""Data as programs have it, which needs a pickle: what is passed to calls and returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any


def record(number: int) -> dict[str, Any]:
    """A small nested dict: 160 bytes of pickle."""
    return {
        "id": number,
        "name": f"customer-{number}",
        "active": number % 3 > 0,
        "score": number / 7,
        "tags": ["new", "europe"],
        "place": {"city": "Bern", "lat": 46.95, "lon": 7.45},
    }


@dataclass
class Order:
    """A small instance."""

    number: int
    customer: str
    amount: float
    paid: bool


def order(number: int) -> Order:
    """One of them."""
    return Order(number, f"customer-{number}", number / 7, number % 3 > 0)


def pair(number: int) -> tuple[str, int]:
    """A key and its value."""
    return f"key-{number}", number


def vector(number: int) -> list[float]:
    """A hundred numbers."""
    return [number + place / 7 for place in range(100)]


#: What makes an item of each kind of data.
KINDS: dict[str, Callable[[int], Any]] = {
    "dicts": record,
    "dataclasses": order,
    "tuples of str and int": pair,
    "lists of 100 floats": vector,
}


@cache
def _text() -> str:
    paragraph = "<p>The quick brown fox jumps over the lazy dog.</p>\n"
    return paragraph * (30_000 // len(paragraph))


def page(number: int) -> str:
    """The text of a page of HTML: 30 kB."""
    return f"<html><title>{number}</title>{_text()}</html>"


class Headers:
    """What a client keeps headers in: a mapping of its own, around one of others."""

    def __init__(self, items: dict[str, str]) -> None:
        self._store = {name.lower(): (name, value) for name, value in items.items()}


class Request:
    """What was asked."""

    def __init__(self, method: str, url: str) -> None:
        self.method = method
        self.url = url
        self.headers = Headers({"Accept": "*/*", "User-Agent": "client/1", "Host": "example.org"})
        self.body: bytes | None = None


class Response:
    """What a client like ``requests`` returns: instances in an instance."""

    def __init__(self, number: int) -> None:
        self.url = f"https://example.org/{number}"
        self.status_code = 200
        self.reason = "OK"
        self.encoding = "utf-8"
        self.elapsed = number / 7
        self.headers = Headers({"Content-Type": "text/html", "Server": "nginx", "Age": f"{number}"})
        self.request = Request("GET", self.url)
        self.history: list[Response] = []
        self.content = page(number).encode()[:3_000]


#: What a call may return for a number, that is larger.
RESULTS: dict[str, Callable[[int], Any]] = {"pages of HTML": page, "responses": Response}
