"""The libraries that some of this needs, and what is said where one is missing.

Thread: any.
"""

from __future__ import annotations

import importlib.util


def rich(what: str) -> None:
    """See that rich is there.

    Raises:
        ImportError: it is not; ``what`` needs it.
    """
    _see("rich", "rich", what)


def bokeh(what: str) -> None:
    """As :func:`rich`, for bokeh."""
    _see("bokeh", "dashboard", what)


def _see(library: str, extra: str, what: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise ImportError(
            f"{what} needs {library}, which is not installed: pip install 'hybridexec[{extra}]'"
        )
