"""Histograms of seconds: how many calls have taken how long, in a constant amount of memory.

Each power of two is divided into eight equal buckets, as HdrHistogram does it, from a microsecond
to eighteen hours. So a quantile is off by a sixteenth of itself at most; counts, the sum and the
largest value are exact.

Thread: the worker's main thread adds; any thread of the parent reads.
"""

from __future__ import annotations

from math import frexp, ldexp

#: Buckets for each power of two, and the powers: values of 2 ** (e - 1) to 2 ** e seconds.
_PARTS = 8
_LOWEST, _HIGHEST = -19, 16
_BUCKETS = (_HIGHEST - _LOWEST + 1) * _PARTS
_LAST = _BUCKETS - 1
_LEAST = 2.0 ** (_LOWEST - 1)
#: A histogram's words on a status page: the sum and the largest value, which are doubles, and the
#: buckets, which are integers.
_SUM, _LARGEST, _FIRST = 0, 1, 2
WORDS = _FIRST + _BUCKETS
_BYTES = 8 * _BUCKETS


def add(
    words: memoryview[int], times: memoryview[float], at: int, seconds: float, count: int
) -> None:
    """Note that ``count`` calls took so long, in the histogram that begins at index ``at``.

    Args:
        words, times: the status page, as integers and as doubles.
    """
    if seconds > _LEAST:
        mantissa, exponent = frexp(seconds)
        bucket = min((exponent - _LOWEST) * _PARTS + int(mantissa * 16) - _PARTS, _LAST)
    else:
        bucket = 0
    words[at + _FIRST + bucket] += count
    times[at] += seconds * count
    if seconds > times[at + _LARGEST]:
        times[at + _LARGEST] = seconds


def edge(bucket: float) -> float:
    """Where a bucket begins, in seconds; the first also has all that is less, the last all that is
    more. With half a bucket added, its middle."""
    exponent, part = divmod(bucket, _PARTS)
    return ldexp(1 + part / _PARTS, int(exponent) + _LOWEST - 1)


class Histogram:
    """What one or more histograms hold together, at one time."""

    __slots__ = ("_lanes", "largest", "total")

    def __init__(self, lanes: int = 0, total: float = 0.0, largest: float = 0.0) -> None:
        # The buckets' counts in one integer, 64 bits each: so those of many workers are added up
        # in one step, which in Python would take milliseconds.
        self._lanes = lanes
        #: The sum of all values, in seconds.
        self.total = total
        #: The largest, in seconds.
        self.largest = largest

    @classmethod
    def read(cls, words: memoryview[int], times: memoryview[float], at: int) -> Histogram:
        """That on a status page; see :func:`add`."""
        buckets = words[at + _FIRST : at + WORDS].tobytes()
        return cls(int.from_bytes(buckets, "little"), times[at], times[at + _LARGEST])

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            self._lanes + other._lanes,
            self.total + other.total,
            max(self.largest, other.largest),
        )

    @property
    def counts(self) -> list[int]:
        """How many values are in each bucket."""
        return memoryview(self._lanes.to_bytes(_BYTES, "little")).cast("Q").tolist()

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def buckets(self) -> list[tuple[float, float, int]]:
        """From the first bucket that is not empty to the last: from how many seconds, to how many,
        and how many values are between."""
        counts = self.counts
        used = [bucket for bucket, count in enumerate(counts) if count]
        between = range(used[0], used[-1] + 1) if used else range(0)
        return [(edge(bucket), edge(bucket + 1), counts[bucket]) for bucket in between]

    def quantiles(self, *shares: float) -> list[float]:
        """The values, in seconds, that these shares of all values do not exceed, from 0 to 1 and in
        rising order; 0 if there are no values."""
        counts = self.counts
        count = sum(counts)
        found: list[float] = []
        passed, bucket = 0, -1
        for share in shares:
            while passed < max(1.0, share * count) and bucket < _LAST:
                bucket += 1
                passed += counts[bucket]
            found.append(min(edge(bucket + 0.5), self.largest) if count else 0.0)
        return found
