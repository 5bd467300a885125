"""Servers and executors that the tests of this folder share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest
from loopback_server import Server, running

from hybridexec import HybridExecutor


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> Iterator[None]:
    """A machine's proxy settings are for other hosts than this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        patch.setenv("no_proxy", "localhost,127.0.0.1")
        yield


@pytest.fixture(scope="session")
def plain_server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture(
    scope="module", params=["forkserver", pytest.param("spawn", marks=pytest.mark.slow)]
)
def executor(request: pytest.FixtureRequest) -> Iterator[HybridExecutor]:
    """Two workers of 200 calls each."""
    context = multiprocessing.get_context(request.param)
    with HybridExecutor(2, context, concurrency=200) as made:
        yield made
