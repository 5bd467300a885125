"""What the recipes talk to, on loopback, in a process of its own: sites, a model and a shelf.

Run as ``python sites.py SITES PAGES LATENCY``. It prints its ports, one for each site, and
ends when its standard input is closed. Each port has:

- ``/N``: page N of the site, with links to pages of this and the other sites;
- ``/v1/chat/completions``: answers as OpenAI's does, but more than 100 questions in a second are
  told to come again after one;
- ``PUT /small/NAME``: takes a file;
- ``/told``: what was seen, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

from aiohttp import web

#: Questions in a second that the model answers.
RATE = 100


class Site:
    """One host, and what was seen of its visitors."""

    def __init__(self, pages: int, latency: float) -> None:
        self.pages = pages
        self.latency = latency
        self.others: list[int] = []
        self.now = self.most = 0
        self.visits: dict[str, int] = {}
        self.asked: deque[float] = deque()
        self.answered = self.refused = 0
        self.files: dict[str, int] = {}

    async def page(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        self.now += 1
        self.most = max(self.most, self.now)
        self.visits[request.path] = self.visits.get(request.path, 0) + 1
        await asyncio.sleep(self.latency)
        self.now -= 1
        links = [f"/{n}" for n in (2 * number + 1, 2 * number + 2, 0) if n < self.pages]
        links += [f"http://127.0.0.1:{port}/{number}" for port in self.others]
        links.append("http://elsewhere.invalid/")
        text = "".join(f'<a href="{link}#top">more</a>\n' for link in links)
        return web.Response(text=text, content_type="text/html")

    async def chat(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        while self.asked and now - self.asked[0] > 1:
            self.asked.popleft()
        if len(self.asked) >= RATE:
            self.refused += 1
            return web.Response(status=429, headers={"Retry-After": "1"})
        self.asked.append(now)
        body = await request.json()
        await asyncio.sleep(self.latency)
        self.answered += 1
        answer = {"role": "assistant", "content": body["messages"][-1]["content"].upper()}
        return web.json_response({"choices": [{"message": answer}]})

    async def put(self, request: web.Request) -> web.Response:
        self.files[request.match_info["name"]] = len(await request.read())
        await asyncio.sleep(self.latency)
        return web.Response(status=201)

    async def told(self, request: web.Request) -> web.Response:
        shown = ("most", "visits", "answered", "refused", "files")
        return web.json_response({name: getattr(self, name) for name in shown})


async def main(count: int, pages: int, latency: float) -> None:
    sites = [Site(pages, latency) for _ in range(count)]
    ports = []
    for site in sites:
        application = web.Application(client_max_size=2**26)
        application.router.add_get(r"/{number:\d+}", site.page)
        application.router.add_post("/v1/chat/completions", site.chat)
        application.router.add_put("/small/{name}", site.put)
        application.router.add_get("/told", site.told)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        ports.append(runner.addresses[0][1])
    for site in sites:
        site.others = ports
    print(*ports, flush=True)
    await asyncio.to_thread(sys.stdin.read)


# -- for the tests ------------------------------------------------------------------------------


@contextlib.contextmanager
def running(sites: int = 1, pages: int = 1, latency: float = 0.01) -> Iterator[list[int]]:
    """A running server's ports."""
    command = [sys.executable, __file__, str(sites), str(pages), str(latency)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield [int(port) for port in process.stdout.readline().split()]
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
        finally:
            process.kill()


def told(port: int) -> dict[str, Any]:
    """What a site has seen."""
    with urlopen(f"http://127.0.0.1:{port}/told", timeout=30) as answer:
        seen: dict[str, Any] = json.load(answer)
        return seen


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
