"""How calls in greenlets look names up.

Thread: main, before there is a hub.
"""

from __future__ import annotations

import importlib

import gevent
from gevent.hub import Hub

from ...settings import Settings


def choose(settings: Settings) -> None:
    """Have the hub that is made next resolve names as the settings say.

    Raises:
        RuntimeError: this gevent does not have that resolver.
    """
    if settings.resolver is not None:
        gevent.config.resolver = settings.resolver
        try:
            importlib.import_module(gevent.config.resolver.__module__)
        except ImportError as error:
            raise RuntimeError(
                f"resolver={settings.resolver!r}: this gevent does not have it ({error}). "
                "resolver='thread' is always there"
            ) from error
    if settings.dns_threads is not None:
        Hub.threadpool_size = settings.dns_threads
