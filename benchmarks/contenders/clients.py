"""HTTP clients as people use them, for both sides of a question: each takes a URL and returns the
size of what that answers. What can be shared is one for the process."""

from __future__ import annotations

import http.client
from functools import cache
from typing import Any

#: Connections that a client keeps: as many as there are calls at once, at most.
_KEPT = 1000


def by_http_client(url: str) -> int:
    """The standard library's, with a connection for each request."""
    _, _, host, path = url.split("/", 3)
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", f"/{path}")
        return len(connection.getresponse().read())
    finally:
        connection.close()


def by_urllib3(url: str) -> int:
    """``urllib3``, whose pool keeps connections."""
    return len(_pool().request("GET", url, timeout=30).data)


def by_requests(url: str) -> int:
    """``requests``, by one session."""
    return len(_session().get(url, timeout=30).content)


@cache
def _pool() -> Any:
    import urllib3

    return urllib3.PoolManager(maxsize=_KEPT)


@cache
def _session() -> Any:
    import requests
    import requests.adapters

    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_KEPT))
    return session
