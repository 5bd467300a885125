"""Put the figures of a run into the documentation: ``python -m benchmarks.publish [RESULTS]``.

Writes what stands between the markers in docs/benchmarks.md and README.md, and the plots in
docs/_static/benchmarks, so that no figure there is written by hand. One of them is the headline: it
opens docs/benchmarks.md, and docs/index.md shows it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from .__main__ import OUT
from .contenders.pair import PAIR
from .contenders.peers import AIO, FORK, THREADS
from .harness import plots, report
from .harness.question import OURS
from .harness.report import Found

ROOT = Path(__file__).parents[1]
#: What is written between markers: the summary on both pages, all else on docs/benchmarks.md.
SUMMARY, DETAILS = "benchmarks, in short", "benchmarks, in detail"
BEGIN, END = "<!-- {}: `make bench-docs` writes this -->", "<!-- {}: end -->"
HEADLINE = "headline.svg"
PICTURE = f"![Bars of {OURS} and others](_static/benchmarks/{HEADLINE})"

#: The questions whose plots say more than their tables.
PLOTTED = (
    "submit_throughput",
    "map_throughput",
    "map_objects",
    "single_dicts",
    "round_trip",
    "sleepers",
    "fetch",
    "arrays",
    "curve_tasks",
    "curve_workers",
    "curve_concurrency",
    "curve_payload",
    "curve_pending",
)

#: The summary's columns and lines: a question, one of its metrics and cases, and how to say that.
COLUMNS = {
    OURS: "HybridExecutor",
    FORK: "ProcessPoolExecutor (fork)",
    THREADS: "ThreadPoolExecutor",
    AIO: "aiomultiprocess",
    PAIR: "hand-written gevent pair",
}
LINES = (
    ("submit_throughput", "rate", "", "no-op `submit` → result, calls/s"),
    ("map_throughput", "rate", "chunksize 1", "no-op `map`, chunksize 1, items/s"),
    ("map_throughput", "rate", "chunksize 1000", "the same, chunksize 1000, items/s"),
    ("map_objects", "rate", "dicts", "`map` of small dicts, chunksize 1000, items/s"),
    ("single_dicts", "rate", "submit", "`submit` of a dict → dict, calls/s"),
    ("round_trip", "p50", "back to back", "round trip of a no-op, back to back, µs"),
    ("round_trip", "p50", "after 5 ms of rest", "the same after 5 ms of rest, µs"),
    ("sleepers", "wall", "warm", "{calls:,} × `time.sleep({seconds:g})`, all in flight, s"),
    ("fetch", "cpu", "even", "CPU per fetched URL, µs"),
    ("arrays", "rate", "as argument", "64 MiB numpy array as argument, MB/s"),
    ("start_up", "first", "", "first result of a new executor, ms"),
)
#: The headline's parts, of the contenders that have columns.
PARTS = (
    plots.Part("fetch", "wall", "even", "{urls:,} fetches of 50 ms"),
    plots.Part("submit_throughput", "rate", "", "no-op submit → result"),
)


def main(arguments: list[str] | None = None) -> None:
    """Publish the results that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=OUT / "results.json")
    options = parser.parse_args(arguments)
    if not options.results.exists():
        parser.error(f"no {options.results}: run `make bench` before")
    publish(json.loads(options.results.read_text(encoding="utf-8")), ROOT)


def publish(document: Found, root: Path) -> None:
    """Write pages and plots below ``root``."""
    folder = root / "docs" / "_static" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    plotted = [name for name in PLOTTED if name in document["questions"]]
    with tempfile.TemporaryDirectory() as drawn:
        plots.draw(document, Path(drawn))
        for name in plotted:
            (folder / f"{name}.svg").write_bytes((Path(drawn) / f"{name}.svg").read_bytes())
    plots.headline(document, PARTS, tuple(COLUMNS), folder / HEADLINE)
    figures = summary(document)
    replace(root / "README.md", SUMMARY, figures)
    page = root / "docs" / "benchmarks.md"
    replace(page, SUMMARY, f"{PICTURE}\n\n{figures}\n\n{origin(document)}")
    replace(page, DETAILS, details(document))


def replace(path: Path, what: str, text: str) -> None:
    """Put ``text`` between the markers of a page."""
    begin, end = BEGIN.format(what), END.format(what)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{path} has no {begin} ... {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def origin(document: Found) -> str:
    """Where the figures come from, in a line."""
    machine = document["machine"]
    facts = [machine[fact] for fact in ("CPU", "Python") if fact in machine]
    where = ", ".join([document["date"], *facts])
    return f"Medians of `{document['command']}`, {where} ([all versions](#the-run))."


def details(document: Found) -> str:
    """What docs/benchmarks.md shows of each target and question."""
    parts = ["## Targets", report.targets(document)]
    for name, question in document["questions"].items():
        parts.append(f"## {question['title']}")
        if name in PLOTTED:
            parts.append(f"![{question['title']}](_static/benchmarks/{name}.svg)")
        parts += report.curves(question) if question["axis"] else report.medians(question)
        parts.append(f"*How:* {question['method']}")
    return "\n\n".join([*parts, "## The run", report.heading(document)])


def summary(document: Found) -> str:
    """The figures that both pages show, of the contenders that have columns."""
    lines = [
        report.line("", *COLUMNS.values()),
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, metric, case, text in LINES:
        question = document["questions"].get(name)
        for table in question["tables"] if question else ():
            if (table["metric"]["key"], table["case"]) == (metric, case):
                cells = [report.median_of(table, contender) for contender in COLUMNS]
                lines.append(report.line(text.format(**question["size"]), *cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
