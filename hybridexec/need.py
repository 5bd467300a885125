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
    _see("rich", "rich", "rich", what)


def bokeh(what: str) -> None:
    """As :func:`rich`, for bokeh."""
    _see("bokeh", "bokeh", "dashboard", what)


def threadpoolctl(what: str) -> None:
    """As :func:`rich`, for threadpoolctl."""
    _see("threadpoolctl", "threadpoolctl", "threadpoolctl", what)


def dnspython(what: str) -> None:
    """As :func:`rich`, for dnspython."""
    _see("dns", "dnspython", "dnspython", what)


def joblib(what: str) -> None:
    """As :func:`rich`, for joblib, and for threadpoolctl beside it."""
    _see("joblib", "joblib", "joblib", what)
    _see("threadpoolctl", "threadpoolctl", "joblib", what)


def distributed(what: str) -> None:
    """As :func:`rich`, for distributed."""
    _see("distributed", "distributed", "cluster", what)


def _see(module: str, library: str, extra: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"{what} needs {library}, which is not installed: pip install 'hybridexec[{extra}]'"
        )
