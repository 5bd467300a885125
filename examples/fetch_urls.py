"""Fetch many URLs with plain blocking code: 2 processes × 500 at once, in bounded memory.

    python examples/fetch_urls.py                                # 20,000 from a local demo server
    python examples/fetch_urls.py --report report.html           # plots of the run, for a browser
    python examples/fetch_urls.py urls.txt --out results.jsonl   # one URL per line; .gz too
    zcat urls.gz | python examples/fetch_urls.py - --out - | jq .status

Each URL gets one line of JSON in the output: url, status, bytes, seconds, error.
Ctrl-C stops; what is done is written.
"""

import argparse
import functools
import os
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import NamedTuple, TextIO

import demo_server
import urllib3
from fetch_report import Record, Summary, rivals
from stop_signals import Stopped, StopSignals
from tqdm import tqdm
from url_file import UrlFile

from hybridexec import HybridExecutor

#: Seconds without a byte after which a server is given up.
SILENCE = 30.0
#: URLs remembered for the comparison.
SAMPLE = 2_000
#: What a shell reports for a program whose reader went away.
BROKEN_PIPE_EXIT = 141


class Page(NamedTuple):
    """What is kept of an answer."""

    status: int
    size: int


def fetch(url: str) -> Page:
    """Download one URL. Follows redirects; raises whatever goes wrong."""
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("not an http:// or https:// URL")
    response = http_client().request("GET", url, preload_content=False)
    size = sum(len(chunk) for chunk in response.stream())
    response.release_conn()
    return Page(response.status, size)


_local = threading.local()


def http_client() -> urllib3.PoolManager:
    """This thread's own client, with one connection that it keeps alive.

    A worker runs 500 calls at once, each in what ``threading`` takes for a thread of its own: there
    are never more than 500 connections, whether the URLs are of one host or of a million.
    """
    if not hasattr(_local, "client"):
        _local.client = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            timeout=SILENCE,
            # No second try after an error; False, where it is allowed, raises the error itself.
            retries=urllib3.Retry(total=None, connect=False, read=False, other=0, redirect=5),
            ssl_context=tls_context(),
        )
    client: urllib3.PoolManager = _local.client
    return client


@functools.cache
def tls_context() -> ssl.SSLContext:
    """One for all connections: to load the system's certificates takes a while."""
    return ssl.create_default_context()


def fetch_all(
    urls: Iterable[str],
    total: int | None,
    args: argparse.Namespace,
    record: Record,
    stop: StopSignals,
) -> None:
    """Fetch the URLs in worker processes and pass on each outcome as soon as it is there.

    ``urls`` may be endless: only as many are taken from it as can soon be fetched.
    """
    executor = HybridExecutor(max_workers=args.workers, concurrency=args.concurrency)
    with (
        executor,
        # disable=None: no bar where standard error is not a terminal.
        tqdm(total=total, unit=" URLs", disable=None) as bar,
        closing(record),
    ):
        # The timeout is for a URL as a whole, from the look-up of its name to its last byte.
        outcomes = executor.options(timeout=args.timeout).outcomes(fetch, urls, progress=bar)
        try:
            for outcome in stop.during(outcomes):
                record.add(outcome)
        except BaseException:
            executor.terminate_workers()  # rather than wait for the calls that are still running
            raise
    if args.report:
        executor.report(args.report)


def run(args: argparse.Namespace, stop: StopSignals) -> int:
    """Fetch what the arguments ask for; returns the exit code."""
    if args.urls is None:
        with demo_server.running(args.latency, args.workers * args.concurrency) as server:
            urls = (f"{server}/page/{number}" for number in range(args.count))
            return fetch_and_report(urls, args.count, args, stop)
    with UrlFile(args.urls, args.count) as file:
        exit_code = fetch_and_report(file, file.count(), args, stop)
    if file.error is not None:
        print(f"fetch_urls: {file.error}", file=sys.stderr)
    return exit_code or int(file.error is not None)


def fetch_and_report(
    urls: Iterable[str], total: int | None, args: argparse.Namespace, stop: StopSignals
) -> int:
    """Fetch the URLs and print what came of it; returns the exit code."""
    summary = Summary(f"{args.workers} workers × {args.concurrency} at once")
    report = sys.stderr if args.out == "-" else sys.stdout
    sample: list[str] = []
    with open_output(args.out) as out:
        try:
            fetch_all(remember(urls, sample), total, args, Record(summary, out), stop)
        except Stopped as stopped:
            print(f"fetch_urls: {stopped}; what is done is kept", file=sys.stderr)
            print(summary, file=report, flush=True)
            return stopped.exit_code
    print(summary, file=report, flush=True)
    if args.report:
        print(f"plots of the run: {args.report}", file=report, flush=True)
    if args.compare and sample:
        for line in summary.comparison(rivals(fetch, sample, stop.during)):
            print(line, file=report, flush=True)
    return 0


def open_output(path: str | None) -> AbstractContextManager[TextIO | None]:
    """The file to write results to, if any."""
    if path is None:
        return nullcontext()
    return nullcontext(sys.stdout) if path == "-" else open(path, "w", encoding="utf-8")


def remember(urls: Iterable[str], sample: list[str]) -> Iterator[str]:
    """The same URLs; the first few are put aside for the comparison."""
    for url in urls:
        if len(sample) < SAMPLE:
            sample.append(url)
        yield url


def main() -> int:
    """Run from the command line; returns the exit code."""
    args = parse_arguments()
    stop = StopSignals()
    try:
        return run(args, stop)
    except Stopped as stopped:
        return stopped.exit_code
    except BrokenPipeError:
        # Nobody reads on. At exit Python would flush once more and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT
    except OSError as error:
        print(f"fetch_urls: {error}", file=sys.stderr)
        return 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Fetch many URLs at once with plain blocking code.",
        epilog="Without URLs it starts a local demo server and fetches from that.",
    )
    add = parser.add_argument
    add("urls", nargs="?", help="file with one URL per line, plain or .gz; - for standard input")
    add("--out", metavar="FILE", help="one line of JSON per URL, replacing FILE; - for stdout")
    add("--report", metavar="FILE", help="plots of the run, as HTML; needs bokeh")
    add("--workers", type=positive(int), default=2, metavar="N", help="processes (2)")
    add("--concurrency", type=positive(int), default=500, metavar="N", help="in each (500)")
    add("--timeout", type=positive(float), default=60.0, metavar="S", help="seconds for a URL (60)")
    add("--count", type=positive(int), metavar="N", help="at most so many (demo server: 20000)")
    add("--latency", type=positive(float), default=0.05, metavar="S", help="of the demo server")
    add(
        "--compare",
        action=argparse.BooleanOptionalAction,
        help="try a sample with the standard library's executors (default: demo server only)",
    )
    args = parser.parse_args()
    if args.urls is None:
        args.count = args.count or 20_000
    if args.compare is None:
        args.compare = args.urls is None
    paths = [path for path in (args.urls, args.out) if path and os.path.isfile(path)]
    if len(paths) == 2 and os.path.samefile(*paths):
        parser.error("--out would replace the file of URLs")
    return args


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """An argparse type: a number greater than 0."""

    def convert(text: str) -> float:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not greater than 0")
        return number

    convert.__name__ = kind.__name__  # argparse names it in its error text
    return convert


if __name__ == "__main__":
    sys.exit(main())
