"""Async libraries in the async lane: they behave as under `asyncio.run`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import async_clients as clients
import pytest
from loopback_server import Server

from hybridexec import HybridExecutor


@pytest.fixture(
    scope="module",
    params=[asyncio.SelectorEventLoop, pytest.param(None, marks=pytest.mark.slow)],
    ids=["asyncio", "default"],
)
def executor(request: pytest.FixtureRequest, tls_server: Server) -> Iterator[HybridExecutor]:
    """One worker, whose clients all calls share."""
    with HybridExecutor(
        1,
        initializer=clients.open_clients,
        initargs=(tls_server.authority,),
        loop_factory=request.param,
    ) as made:
        yield made


@pytest.mark.parametrize("get", [clients.aiohttp_get, clients.httpx_get])
def test_calls_share_a_client_over_tls(
    executor: HybridExecutor, tls_server: Server, get: Any
) -> None:
    tls_server.peak()
    urls = [f"{tls_server.url}/together/50"] * 50
    assert list(executor.map(get, urls)) == [b"met"] * 50
    assert tls_server.peak() >= 50


def test_a_client_of_its_own(executor: HybridExecutor, plain_server: Server) -> None:
    url = f"{plain_server.url}/together/1"
    assert list(executor.map(clients.own_aiohttp_get, [url] * 20)) == [b"met"] * 20


def test_a_clients_timeout_is_its_own(executor: HybridExecutor, tls_server: Server) -> None:
    url = f"{tls_server.url}/together/1000"
    patient = executor.options(timeout=60)
    assert list(patient.map(clients.aiohttp_impatient, [url] * 10)) == ["too slow"] * 10


def test_a_server_in_a_call(executor: HybridExecutor) -> None:
    futures = [executor.submit(clients.serve_and_fetch, 20) for _ in range(5)]
    for future in futures:
        assert future.result(60) == [f"hello {n}" for n in range(20)]


def test_streams_and_protocols(executor: HybridExecutor) -> None:
    texts = [f"text {n}" for n in range(20)]
    assert list(executor.map(clients.echo_over_streams, texts)) == texts
    assert list(executor.map(clients.ask_over_a_protocol, [100] * 5)) == [4950] * 5


def test_programs(executor: HybridExecutor) -> None:
    ended = list(executor.map(clients.run_a_program, range(8)))
    assert ended == [(n, f"{n}!") for n in range(8)]


def test_threads(executor: HybridExecutor) -> None:
    names = [f"call {n}" for n in range(20)]
    assert list(executor.map(clients.work_in_threads, names)) == [
        (name, True, True) for name in names
    ]
