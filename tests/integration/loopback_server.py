"""A real server on loopback, in a process of its own; it tells how many requests it served at once.

Run as ``python loopback_server.py [CERTIFICATE]``. It prints ``PORT LINE_PORT`` and ends when its
standard input is closed. Both HTTP and the line protocol know:

- ``together/N``: answers when N requests wait here at the same time; only concurrent calls get by;
- ``echo``: answers with what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

#: Seconds after which those who wait for others are told that too few came.
TOO_FEW = 30


class Meeting:
    """Where requests wait for each other."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        self._changed = asyncio.Condition()

    async def join(self, count: int) -> bool:
        """Return True when ``count`` have been here at the same time."""
        async with self._changed:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self._changed.notify_all()
            try:
                async with asyncio.timeout(TOO_FEW):
                    await self._changed.wait_for(lambda: self.most >= count)
            except TimeoutError:
                return False
            finally:
                self.waiting -= 1
            return True


async def main(certificate: str | None) -> None:
    meeting = Meeting()

    async def together(request: web.Request) -> web.Response:
        if await meeting.join(int(request.match_info["count"])):
            return web.Response(text="met")
        return web.Response(status=503, text="too few")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def peak(request: web.Request) -> web.Response:
        """The most that waited at once, from now on counted anew."""
        most, meeting.most = meeting.most, 0
        return web.Response(text=json.dumps(most))

    async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                word, _, rest = line.decode().strip().partition("/")
                if word == "together":
                    line = b"met\n" if await meeting.join(int(rest)) else b"too few\n"
                writer.write(line)
                await writer.drain()
            writer.close()

    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    application = web.Application(client_max_size=2**26)
    application.router.add_get("/together/{count}", together)
    application.router.add_post("/echo", echo)
    application.router.add_get("/peak", peak)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context, backlog=1024)
    await site.start()
    line_server = await asyncio.start_server(lines, "127.0.0.1", 0, ssl=context, backlog=1024)
    (address,) = runner.addresses
    print(address[1], line_server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


# -- for the tests ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """Where a running server is."""

    port: int
    line_port: int
    authority: str | None

    @property
    def url(self) -> str:
        return f"{'http' if self.authority is None else 'https'}://localhost:{self.port}"

    def peak(self) -> int:
        """The most requests that waited at once since the last time this was asked."""
        import requests

        answer = requests.get(f"{self.url}/peak", verify=self.authority or True, timeout=30)
        return int(answer.json())


@contextlib.contextmanager
def running(folder: Path | None = None) -> Iterator[Server]:
    """A running server: with TLS and a certificate for localhost made in ``folder``, if given."""
    arguments = [sys.executable, __file__]
    authority = None
    if folder is not None:
        import trustme

        issuer = trustme.CA()
        authority = str(folder / "authority.pem")
        issuer.cert_pem.write_to_path(authority)
        certificate = folder / "certificate.pem"
        issuer.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
        arguments.append(str(certificate))
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port, line_port = map(int, process.stdout.readline().split())
            yield Server(port, line_port, authority)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
