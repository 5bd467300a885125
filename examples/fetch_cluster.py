"""Fetch many URLs on a cluster, and kill one of its machines in the middle: nothing is lost.

    python examples/fetch_cluster.py                  # 20,000 URLs, two nodes; one is killed
    python examples/fetch_cluster.py --survive        # none is killed
    python examples/fetch_cluster.py --count 1000000

The scheduler and the nodes are processes on this machine, started by Dask's own command line, as
they would be on others (docs/deployment.md). Each node has one worker process, with 500 calls at
once.
"""

import argparse
import collections
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import demo_server
import distributed
import urllib3
from fetch_report import Latencies
from tqdm import tqdm

import hybridexec
from hybridexec.cluster import ClusterExecutor

#: Seconds that a URL may take, and without a byte after which its server is given up.
TIMEOUT, SILENCE = 60.0, 30.0


class LocalNodes:
    """A scheduler and nodes on this machine, one process each."""

    def __init__(self, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "scheduler.json"
        here = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        where = ["--scheduler-file", str(self._file)]
        self._scheduler = self._start("scheduler", "--port", "0", *here, *where)
        worker = ["worker", *here, *where, "--nthreads", "1", "--no-nanny"]
        self.nodes = {
            name: self._start(*worker, "--name", name)
            for name in (f"node-{number}" for number in range(1, count + 1))
        }

    @staticmethod
    def _start(*arguments: str) -> "subprocess.Popen[bytes]":
        # In a session of its own it does not see the terminal's Ctrl-C.
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            env={**os.environ, "DASK_LOGGING__DISTRIBUTED": "error"},
            start_new_session=True,
        )

    def address(self) -> str:
        """Where the scheduler is, when all nodes are there, too."""
        while self._scheduler.poll() is None:
            # There is no file yet, or half of one.
            with contextlib.suppress(OSError, ValueError):
                address = str(json.loads(self._file.read_text("utf-8"))["address"])
                break
            time.sleep(0.05)
        else:
            raise ChildProcessError("the scheduler did not start")
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(len(self.nodes), timeout=60)
        return address

    def kill(self, name: str) -> None:
        """As if that machine's power failed."""
        self.nodes[name].kill()
        self.nodes[name].wait()

    def close(self) -> None:
        """End all of them: the nodes first, so that none misses its scheduler."""
        for processes in (list(self.nodes.values()), [self._scheduler]):
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        self._folder.cleanup()


def make_client() -> urllib3.PoolManager:
    """What the calls of one worker share: it is made there."""
    return urllib3.PoolManager(maxsize=500, timeout=SILENCE, retries=False)


def fetch(url: str) -> int:
    """Download one URL, in plain blocking code; returns the status."""
    response: urllib3.BaseHTTPResponse = hybridexec.state().request("GET", url)
    return response.status


class Summary:
    """Counts outcomes; ``str()`` of it is the report."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen: set[str] = set()
        self.twice = 0
        self.again = 0
        self.endings: collections.Counter[str] = collections.Counter()
        self.latencies = Latencies()
        self.killed = ""
        self._began = time.monotonic()

    def add(self, outcome: hybridexec.Outcome[int]) -> None:
        """Count one."""
        self.twice += outcome.item in self.seen
        self.seen.add(outcome.item)
        self.again += outcome.attempts > 1
        if outcome.seconds is not None:
            self.latencies.add(outcome.seconds)
        error = outcome.error
        self.endings[str(outcome.value) if error is None else type(error).__name__] += 1

    @property
    def lost(self) -> int:
        """How many have no outcome, or the error of a call that was lost."""
        return self.count - len(self.seen) + self.endings["NodeLost"] + self.endings["WorkerLost"]

    def __str__(self) -> str:
        seconds = time.monotonic() - self._began
        endings = ", ".join(f"{count:,} × {what}" for what, count in self.endings.most_common())
        marks = ((p, self.latencies.percentile(p) * 1e3) for p in (50, 99))
        rows = {
            "URLs": f"{len(self.seen):,} in {seconds:.1f} s: {len(self.seen) / seconds:,.0f}/s",
            "outcomes": endings,
            "latency": ", ".join(f"p{p} {milliseconds:,.0f} ms" for p, milliseconds in marks),
            "killed": self.killed or "none",
            "ran again": f"{self.again:,} that had been sent to it",
            "lost": f"{self.lost:,}, and {self.twice:,} came twice",
        }
        if not self.killed:
            del rows["ran again"]
        return "\n".join(f"{name:<12} {text}" for name, text in rows.items())


def run(server: str, nodes: LocalNodes, args: argparse.Namespace) -> Summary:
    """Fetch all, and kill a node when half of them are there."""
    summary = Summary(args.count)
    urls = (f"{server}/page/{number}" for number in range(args.count))
    with (
        ClusterExecutor(
            nodes.address(),
            concurrency=args.concurrency,
            worker_state=make_client,
            # A GET may be repeated.
            on_worker_loss="retry",
        ) as executor,
        tqdm(total=args.count, unit=" URLs", disable=None) as bar,
    ):
        for outcome in executor.options(timeout=TIMEOUT).outcomes(fetch, urls, progress=bar):
            summary.add(outcome)
            if len(summary.seen) == args.count // 2 and not args.survive:
                name = list(nodes.nodes)[-1]
                nodes.kill(name)
                summary.killed = f"{name}, when {len(summary.seen):,} were there"
    return summary


def main() -> int:
    """Run from the command line; returns 0 if no URL was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="URLs (20000)")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="at least 2 (2)")
    parser.add_argument("--concurrency", type=int, default=500, metavar="N", help="on each (500)")
    parser.add_argument("--latency", type=float, default=0.05, metavar="S", help="of the server")
    parser.add_argument("--survive", action="store_true", help="kill no node")
    args = parser.parse_args()
    if min(args.count, args.nodes, args.concurrency) < 2:
        parser.error("there must be at least two URLs, nodes and calls at once")
    with (
        demo_server.running(args.latency, args.nodes * args.concurrency) as server,
        contextlib.closing(LocalNodes(args.nodes)) as nodes,
    ):
        print(f"{args.count:,} URLs, {args.nodes} nodes × {args.concurrency} at once", flush=True)
        summary = run(server, nodes, args)
    print(summary)
    return int(summary.lost > 0)


if __name__ == "__main__":
    sys.exit(main())
