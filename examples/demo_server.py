"""A local HTTP server that takes its time, for trying out blocking clients.

Alone:      python examples/demo_server.py --port 8000 --latency 0.05
In a with:  with demo_server.running(latency=0.05) as url: ...

``/status/404`` answers with that status and ``/delay/2.5`` after so many seconds; every other
path answers 200 after the given latency.
"""

import argparse
import asyncio
import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator

HOST = "127.0.0.1"
BODY = b"The quick brown fox jumps over the lazy dog.\n" * 20


@contextlib.contextmanager
def running(latency: float, connections: int = 1000) -> Iterator[str]:
    """Serve from a process of its own until the block ends; gives the server's address.

    The server also ends when this process dies, however it dies: its standard input ends then.
    In a session of its own it does not see the terminal's Ctrl-C, so that calls that are still
    running get their answers.
    """
    command = [sys.executable, __file__, "--until-stdin-ends"]
    command += ["--latency", str(latency), "--connections", str(connections)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise ChildProcessError("the demo server did not start")
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


async def serve(port: int, latency: float, *, until_stdin_ends: bool) -> None:
    """Serve for ever, or until standard input ends."""
    # Imported here: whoever only wants running() needs no server library in its own process.
    from aiohttp import web

    async def answer(request: web.BaseRequest) -> web.Response:
        delay, status = latency, 200
        match request.path.split("/"):
            case ["", "status", code]:
                status = int(code)
            case ["", "delay", seconds]:
                delay = float(seconds)
        await asyncio.sleep(delay)
        return web.Response(body=BODY, status=status, content_type="text/plain")

    # aiohttp's low-level server: no router, no middleware, no access log. On two cores the server
    # takes its share of the CPU from the client it is there to measure.
    runner = web.ServerRunner(web.Server(answer), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, backlog=4096, shutdown_timeout=0).start()
    print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
    if until_stdin_ends:
        await asyncio.to_thread(sys.stdin.buffer.read)
    else:
        await asyncio.Event().wait()


def allow_connections(count: int) -> None:
    """Raise the limit of open files to what so many connections need, or end the program."""
    needed, unlimited = count + 64, resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == unlimited or soft >= needed:
        return
    if hard != unlimited and hard < needed:
        hard = needed  # only an administrator may
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        sys.exit(f"demo_server: the limit of open files is too low for {count:,} connections")


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A local HTTP server that takes its time.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds per answer")
    parser.add_argument("--connections", type=int, default=1000, help="to be ready for at once")
    parser.add_argument("--until-stdin-ends", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    allow_connections(args.connections)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.port, args.latency, until_stdin_ends=args.until_stdin_ends))


if __name__ == "__main__":
    main()
