"""An HTTP server that costs as little as one in Python can, so that clients are what is measured.

    with lean_server.running() as (url, pid): ...

It answers every request with the same 900 bytes, 50 ms later.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LATENCY = 0.05
_BODY = b"The quick brown fox jumps over the lazy dog.\n" * 20
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY
_END = b"\r\n\r\n"


@contextmanager
def running() -> Iterator[tuple[str, int]]:
    """The server in a process of its own: its URL and process id. This process and those that it
    starts may have as many descriptors open as the system lets them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.stdin.close()


class _Answers(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._later = asyncio.get_running_loop().call_later
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        *requests, self._received = self._received.split(_END)
        for _ in requests:
            self._later(LATENCY, self._transport.write, _ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answers, "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_serve())
