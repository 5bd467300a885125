"""A file of URLs, of any length, plain or gzip, or standard input."""

import gzip
import io
import itertools
import os
import stat
import zlib
from collections.abc import Iterator
from typing import Self


class UrlFile:
    """The URLs of a file, one per line, read as they are asked for; ``-`` is standard input.

    Blank lines and lines that start with ``#`` are left out. A file that cannot be read to its end
    ends there, with the reason in ``error``: the URLs before it are still fetched.
    """

    def __init__(self, path: str, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit
        self.error: str | None = None
        self._raw = _open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._raw.close()

    def count(self) -> int | None:
        """About how many URLs to expect: lines, if counting them is cheap; else None."""
        raw = self._raw
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode) or self._is_gzip():
            return self.limit
        start = raw.tell()
        lines = sum(block.count(b"\n") for block in iter(lambda: raw.read(1 << 20), b""))
        raw.seek(start)
        return lines if self.limit is None else min(lines, self.limit)

    def __iter__(self) -> Iterator[str]:
        return itertools.islice(self._urls(), self.limit)

    def _urls(self) -> Iterator[str]:
        try:
            lines = gzip.GzipFile(fileobj=self._raw) if self._is_gzip() else self._raw
            # Bytes that are no UTF-8 make one bad URL, not the end of the run.
            with io.TextIOWrapper(lines, "utf-8-sig", errors="backslashreplace") as text:
                for line in text:
                    url = line.strip()
                    if url and not url.startswith("#"):
                        yield url
        except (OSError, EOFError, zlib.error) as error:
            self.error = f"{self.path}: {error}"

    def _is_gzip(self) -> bool:
        return self._raw.peek(2)[:2] == b"\x1f\x8b"


def _open(path: str) -> io.BufferedReader:
    return open(0, "rb", closefd=False) if path == "-" else open(path, "rb")
