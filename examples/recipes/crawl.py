"""A polite crawler: each host is asked at most 8 times at once, and goes on where it was stopped.

    python crawl.py crawl.db http://one.example/ http://two.example/
    python crawl.py crawl.db                          # go on with what is left

It stays on the hosts that it was given. What it has found is in the database: a row for each page,
with its status when it has been fetched.
"""

import re
import sqlite3
import sys
import urllib.request
from urllib.parse import urldefrag, urljoin, urlsplit

from hybridexec import Frontier, HybridExecutor

LINK = re.compile(r'href="([^"#]+)')


def fetch(url):
    """The status of a page, and the links on it."""
    with urllib.request.urlopen(url, timeout=30) as page:
        text = page.read().decode("utf-8", "replace")
        return page.status, [urldefrag(urljoin(url, link)).url for link in LINK.findall(text)]


def host_of(url):
    return urlsplit(url).netloc


def open_database(path):
    """One in which a commit costs next to nothing, and is lost only if the power is."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    return database


def crawl(database, seeds):
    database.execute("CREATE TABLE IF NOT EXISTS pages (url TEXT PRIMARY KEY, status TEXT)")
    add = "INSERT OR IGNORE INTO pages (url) VALUES (?)"
    database.executemany(add, [(seed,) for seed in seeds])
    known = [url for (url,) in database.execute("SELECT url FROM pages")]
    left = [url for (url,) in database.execute("SELECT url FROM pages WHERE status IS NULL")]
    hosts = {host_of(url) for url in known}
    seen = set(known)
    frontier = Frontier(left)
    with HybridExecutor(concurrency=100) as executor:
        polite = executor.options(key=host_of, per_key=8, timeout=60, retries=2)
        for outcome in polite.outcomes(fetch, frontier):
            status, links = outcome.value if outcome.ok else (repr(outcome.error), [])
            for link in links:
                if host_of(link) in hosts and link not in seen:
                    seen.add(link)
                    database.execute(add, (link,))
                    frontier.add(link)
            database.execute("UPDATE pages SET status = ? WHERE url = ?", (status, outcome.item))
            database.commit()
            yield outcome.item, status


if __name__ == "__main__":
    path, *seeds = sys.argv[1:]
    database = open_database(path)
    for count, (url, status) in enumerate(crawl(database, seeds), 1):
        print(f"{count:6,} {status} {url}")
