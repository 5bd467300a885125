"""Where a view is shown again and again: a terminal, a notebook's cell, or lines of text.

Thread: one at a time; each is opened and closed by the same one.
Guarantees: what is shown last stays; whatever ends the showing, the terminal is as it was before.
"""

from __future__ import annotations

import importlib
import io
import logging
import sys
from typing import Any, Protocol

import rich.live
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.text import Text

from .content import summary
from .table import Picture
from .view import View

#: The streams of a process.
_STREAMS = ("stdout", "stderr")
#: A picture in a notebook: its size, and how it is embedded.
_CELL_WIDTH, _CELL_HEIGHT = 110, 60
_FORMAT = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


class Screen(Protocol):
    """Where a view is shown."""

    #: How often, in seconds, it is to be shown.
    seconds: float

    def open(self, view: View) -> None:
        """Begin, with this."""

    def show(self, view: View) -> None:
        """Show this instead."""

    def close(self, view: View) -> None:
        """Show this, and end."""


def screen_for(console: Console) -> Screen:
    """What suits a console."""
    if console.is_jupyter:
        return Cell()
    if console.is_terminal and not console.is_dumb_terminal:
        return Terminal(console)
    return Lines(console)


class Terminal:
    """The lower lines of a terminal. What is printed or logged meanwhile is shown above them."""

    seconds = 0.25

    def __init__(self, console: Console) -> None:
        # What goes into a file or a pipe is left alone.
        self._live = rich.live.Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=_is_terminal(sys.stdout),
            redirect_stderr=_is_terminal(sys.stderr),
        )
        self._handlers: list[tuple[Any, Any]] = []

    def open(self, view: View) -> None:
        """As :meth:`Screen.open`."""
        before = {id(stream): name for name in _STREAMS if (stream := getattr(sys, name))}
        self._live.update(Picture(view))
        self._live.start(refresh=True)
        try:
            # Handlers of logs keep the stream that they have got when they were made.
            for handler in _stream_handlers():
                stream = getattr(sys, before.get(id(handler.stream), ""), None)
                if isinstance(stream, FileProxy):
                    self._handlers.append((handler, handler.setStream(stream)))
        except BaseException:
            self._end()
            raise

    def show(self, view: View) -> None:
        """As :meth:`Screen.show`."""
        self._live.update(Picture(view), refresh=True)

    def close(self, view: View) -> None:
        """As :meth:`Screen.close`."""
        self._live.update(Picture(view))
        self._end()

    def _end(self) -> None:
        try:
            for handler, stream in self._handlers:
                if isinstance(handler.stream, FileProxy):  # else somebody has changed it since
                    handler.setStream(stream)
        finally:
            self._live.stop()


class Cell:
    """The output of a notebook's cell."""

    seconds = 0.5

    def open(self, view: View) -> None:
        """As :meth:`Screen.open`."""
        # By name, because it has no types, and is there in a notebook only.
        self._shown: Any = importlib.import_module("IPython.display")
        self._handle = self._shown.display(self._html(view), display_id=True)

    def show(self, view: View) -> None:
        """As :meth:`Screen.show`."""
        self._handle.update(self._html(view))

    close = show

    def _html(self, view: View) -> Any:
        console = Console(
            file=io.StringIO(),
            force_jupyter=False,
            color_system="truecolor",
            width=_CELL_WIDTH,
            height=_CELL_HEIGHT,
            record=True,
        )
        console.print(Picture(view))
        return self._shown.HTML(console.export_html(inline_styles=True, code_format=_FORMAT))


class Lines:
    """One line every few seconds, where there is no terminal."""

    seconds = 5.0

    def __init__(self, console: Console) -> None:
        self._console = console

    def open(self, view: View) -> None:
        """As :meth:`Screen.open`."""

    def show(self, view: View) -> None:
        """As :meth:`Screen.show`."""
        self._console.print(Text(summary(view)), soft_wrap=True)

    close = show


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _stream_handlers() -> list[Any]:
    """The handlers of all loggers that write to a stream."""
    named = list(logging.Logger.manager.loggerDict.values())
    loggers = [logging.root, *(each for each in named if isinstance(each, logging.Logger))]
    found = {id(handler): handler for logger in loggers for handler in logger.handlers}
    return [each for each in found.values() if isinstance(each, logging.StreamHandler)]
