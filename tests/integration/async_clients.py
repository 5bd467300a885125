"""Coroutines that use libraries and asyncio itself, as calls; each returns something to compare."""

from __future__ import annotations

import asyncio
import contextvars
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import aiohttp.web
import httpx

session: aiohttp.ClientSession | None = None
client: httpx.AsyncClient | None = None


async def open_clients(certificate: str) -> None:
    """As an initializer: clients that all calls of the worker share."""
    global session, client
    context = ssl.create_default_context(cafile=certificate)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0))
    limits = httpx.Limits(max_connections=100)
    client = httpx.AsyncClient(verify=context, limits=limits, trust_env=False, timeout=60)


async def aiohttp_get(url: str) -> bytes:
    assert session is not None
    async with session.get(url) as response:
        return await response.read()


async def aiohttp_impatient(url: str) -> str:
    assert session is not None
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=0.05)) as response:
            await response.read()
    except TimeoutError:
        return "too slow"
    return "read"


async def httpx_get(url: str) -> bytes:
    assert client is not None
    return (await client.get(url)).content


async def own_aiohttp_get(url: str) -> bytes:
    async with aiohttp.ClientSession() as own, own.get(url) as response:
        return await response.read()


async def _say_hello(request: aiohttp.web.Request) -> aiohttp.web.Response:
    return aiohttp.web.Response(text=f"hello {request.match_info['name']}")


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    app = aiohttp.web.Application()
    app.router.add_get("/{name}", _say_hello)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def serve_and_fetch(count: int) -> list[str]:
    """A server and its clients in one call."""
    async with _server() as url, aiohttp.ClientSession() as own:

        async def get(name: int) -> str:
            async with own.get(f"{url}/{name}") as response:
                return await response.text()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get(n)) for n in range(count)]
        return [task.result() for task in tasks]


async def echo_over_streams(text: str) -> str:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text.encode() + b"\n")
        await writer.drain()
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return answer.decode().strip()


class Numbers(asyncio.Protocol):
    """A client of the kind that database drivers are: it numbers what it sends."""

    def __init__(self) -> None:
        self.answers: dict[bytes, asyncio.Future[bytes]] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for line in data.split():
            self.answers.pop(line).set_result(line)

    def ask(self, line: bytes) -> asyncio.Future[bytes]:
        self.answers[line] = asyncio.get_running_loop().create_future()
        self.transport.write(line + b"\n")
        return self.answers[line]


async def ask_over_a_protocol(count: int) -> int:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(repeat, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        transport, numbers = await loop.create_connection(Numbers, *address[:2])
        answers = await asyncio.gather(*(numbers.ask(b"%d" % n) for n in range(count)))
        transport.close()
    return sum(map(int, answers))


async def run_a_program(number: int) -> tuple[int | None, str]:
    code = f"import sys; print(sys.stdin.read() + '!'); sys.exit({number})"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(str(number).encode())
    return process.returncode, out.decode().strip()


WHO = contextvars.ContextVar("WHO", default="nobody")


async def work_in_threads(name: str) -> tuple[str, bool, bool]:
    WHO.set(name)
    loop = asyncio.get_running_loop()
    there = await asyncio.to_thread(WHO.get)
    first = await loop.run_in_executor(None, threading.get_ident)
    return (
        there,
        first != threading.get_ident(),
        threading.current_thread() is threading.main_thread(),
    )
