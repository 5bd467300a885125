"""A browser that looks at pages: the system's Chromium, without a screen.

What a page logs as a warning or an error, raises, or asks of the network fails the test that looks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

#: How long a page may take for what is waited for, in milliseconds.
PATIENCE = 30_000

#: The rows of a column of the page's, by name.
COLUMN = """([columns, column]) => {
    const all = [...Bokeh.documents[0]._all_models.values()]
    return [...all.find((each) => each.name === `${columns} columns`).get_array(column)]
}"""
#: All that can be read on the page, that in bokeh's shadow roots included.
TEXT = """() => {
    const text = []
    function read(node) {
        if (node.nodeType === Node.TEXT_NODE) text.push(node.data)
        if (node.shadowRoot) read(node.shadowRoot)
        if (node.tagName !== "SCRIPT" && node.tagName !== "STYLE") node.childNodes.forEach(read)
    }
    read(document.body)
    return text.join(" ")
}"""


class Look:
    """A page in the browser."""

    def __init__(self, page: Any) -> None:
        self.page = page
        #: What went wrong, and all addresses that were asked for.
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.complaints.append(f"raised: {error}"))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", self._asked_user)

    def _logged(self, message: Any) -> None:
        if message.type in {"warning", "error"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked_user(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, url: str) -> None:
        """Open it, and wait until it has been drawn."""
        self.page.goto(url)
        self.page.wait_for_function(
            "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"
        )

    def leave(self) -> None:
        """Close it."""
        self.page.close()

    def column(self, columns: str, column: str) -> list[Any]:
        """What a plot or table draws."""
        found: list[Any] = self.page.evaluate(COLUMN, [columns, column])
        return found

    def wait_for(self, columns: str, column: str, condition: str) -> None:
        """Wait until a column is so.

        Args:
            condition: JavaScript, of ``rows``.
        """
        self.page.wait_for_function(
            f"(of) => {{ const rows = ({COLUMN})(of); return {condition} }}", arg=[columns, column]
        )

    @property
    def text(self) -> str:
        """All that can be read."""
        found: str = self.page.evaluate(TEXT)
        return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()
