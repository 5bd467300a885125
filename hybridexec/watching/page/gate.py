"""The gate: which requests the page's server answers at all.

Thread: the server's.
Guarantees: without the token, whatever is asked for gets a 403 and nothing else: the page, its
websocket, scripts, and paths that do not exist. So does a request under a name that the server does
not go by, which a page from elsewhere could send once it has that name point here, and one that
another site's page sends.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from bokeh.application import Application
from bokeh.resources import Resources
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.static_handler import StaticHandler
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform, RequestHandler

_HEADERS = {
    # All comes from this server. Bokeh makes functions of texts, and style sheets as it goes.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    # The token is in the address.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class Gate(BokehTornado):  # type: ignore[misc]  # its base is not followed
    """Bokeh's server behind a token: the first part of each path."""

    def __init__(
        self, application: Application, token: str, names: Collection[str], any_address: bool
    ) -> None:
        """
        Args:
            names: what the server goes by, in an address before the port. (That may be another: a
                tunnel's.)
            any_address: whether it also goes by whatever is an address, not a name.
        """
        super().__init__(
            {"/": application},
            prefix=token,
            # See passes(), which is stricter.
            extra_websocket_origins=["*"],
            # What a browser sends of other servers on this machine has no place in the page.
            include_headers=[],
            include_cookies=[],
            transforms=[_Headers],
            # The path would be logged, and with it the token.
            log_function=_log_nothing,
        )
        self._token = token.encode()
        self._names = names
        self._any_address = any_address

    def find_handler(self, request: HTTPServerRequest, **rest: Any) -> Any:
        """See ``tornado.web.Application``: the one way to all that there is."""
        if not self.passes(request):
            return self.get_handler_delegate(request, _Refusal)
        return super().find_handler(request, **rest)

    def resources(self, absolute_url: str | bool | None = None) -> Resources:
        """This server's own, whatever the environment says of others."""
        version = StaticHandler.append_version
        return Resources(mode="server", root_url=self.prefix, path_versioner=version)

    def passes(self, request: HTTPServerRequest) -> bool:
        """Whether it is to be answered."""
        token = request.path.lstrip("/").partition("/")[0]
        if not secrets.compare_digest(token.encode(), self._token):
            return False
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        try:
            name = urlsplit(f"//{host}").hostname
            page = host if origin is None else urlsplit(origin).netloc
        except ValueError:  # they are no addresses
            return False
        if not name or page.lower() != host.lower():
            return False
        return name in self._names or (self._any_address and is_address(name))


class _Refusal(RequestHandler):  # type: ignore[misc]  # its base is not followed
    """Says no, whatever the method."""

    def prepare(self) -> None:
        self.set_status(403)
        self.finish("403: the address needs this page's token, as executor.dashboard().url has it")


class _Headers(OutputTransform):  # type: ignore[misc]  # its base is not followed
    """Adds headers to every answer."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in _HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


def is_address(name: str) -> bool:
    """Whether it is no name, but an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _log_nothing(handler: RequestHandler) -> None:
    pass
