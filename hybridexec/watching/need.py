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
    if importlib.util.find_spec("rich") is None:
        raise ImportError(
            f"{what} needs rich, which is not installed: pip install 'hybridexec[rich]'"
        )
