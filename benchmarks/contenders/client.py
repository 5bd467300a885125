"""The client code of the fetch question: plain ``requests``, the same for all contenders."""

from __future__ import annotations

import threading

import requests

_local = threading.local()


def fetch(url: str) -> int:
    """The size of what ``url`` answers; one session per thread, or greenlet, of the worker's."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    answer = _local.session.get(url, timeout=30)
    answer.raise_for_status()
    return len(answer.content)
