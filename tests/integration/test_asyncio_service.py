"""Programs of event loops that have blocking work done: a web service under load, and a crawl."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from hybridexec import Frontier, HybridExecutor

pytestmark = pytest.mark.slow

PAGES = 200


def respond(number: int) -> int:
    if number % 3 == 0:
        time.sleep(120)  # its client gives up
    time.sleep(0.01)
    return number * number


def links_of(url: str) -> list[str]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        page = answer.read().decode()
    return re.findall(r'href="([^"]+)"', page)


@contextlib.asynccontextmanager
async def serving(
    path: str, handler: Callable[[web.Request], Awaitable[web.Response]]
) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get(path, handler)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until_idle(executor: HybridExecutor) -> None:
    async with asyncio.timeout(30):
        while (stats := executor.stats()).running or stats.queued:  # noqa: ASYNC110  # nobody is told
            await asyncio.sleep(0.02)


def test_a_service_whose_clients_give_up_leaves_nothing_running() -> None:
    async def main() -> None:
        async with HybridExecutor(2, concurrency=100, max_pending=150) as executor:

            async def handler(request: web.Request) -> web.Response:
                number = await executor.asubmit(respond, int(request.match_info["number"]))
                return web.Response(text=str(number))

            async def ask(session: aiohttp.ClientSession, number: int) -> str:
                limit = aiohttp.ClientTimeout(total=1 if number % 3 == 0 else 60)
                async with session.get(f"/{number}", timeout=limit) as answer:
                    return await answer.text()

            async with (
                serving("/{number}", handler) as url,
                aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session,
            ):
                asked = [ask(session, number) for number in range(300)]
                answers = await asyncio.gather(*asked, return_exceptions=True)
                for number, answer in enumerate(answers):
                    expected = TimeoutError if number % 3 == 0 else str
                    assert isinstance(answer, expected), (number, answer)
                    assert number % 3 == 0 or answer == str(number * number)
                await until_idle(executor)

    asyncio.run(main())


def test_a_crawl_fetches_each_page_once_though_it_was_left() -> None:
    served: list[int] = []

    async def page(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        served.append(number)
        if number % 50 == 49:
            raise web.HTTPNotFound
        host = f"{request.scheme}://{request.host}"
        further = [link for link in (2 * number + 1, 2 * number + 2, number // 2) if link < PAGES]
        links = [f'<a href="{host}/{link}">{link}</a>' for link in further]
        return web.Response(text="".join(links), content_type="text/html")

    async def main() -> None:
        async with serving("/{number}", page) as url, HybridExecutor(2) as executor:
            frontier = Frontier([f"{url}/0"])
            failed = []
            while frontier:
                results = 0
                async for outcome in executor.aoutcomes(links_of, frontier, buffersize=20):
                    results += 1
                    if outcome.ok:
                        frontier.extend(outcome.value)
                    else:
                        failed.append(outcome.item)
                    if results == 40:
                        break
                await until_idle(executor)  # those that were running
            missing = {n for n in range(PAGES) if n % 50 == 49}
            assert {int(item.rpartition("/")[2]) for item in failed} <= missing
            # A failure's own links are not found.
            assert set(served) == reachable(missing)
            assert frontier.seen == len(set(served))

    asyncio.run(main())


def reachable(missing: set[int]) -> set[int]:
    found: set[int] = set()
    new = {0}
    while new:
        found |= new
        ways = {link for n in new - missing for link in (2 * n + 1, 2 * n + 2, n // 2)}
        new = {link for link in ways if link < PAGES} - found
    return found
